"""Lists the processes of the job, and records the eval programs among them, as the job's report has them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from evalmon_agent.agent.sampling.host_usage import UNIFIED, job_directories, pids_in
from evalmon_agent.files.proc import parent_of, read, stat_fields
from evalmon_agent.words.eval_processes import WatchedProgram

from .command_line import CommandLine, without_credentials
from .open_files import LINE, NAME, OpenFiles, Paths, Written

_ENVIRONMENT_BYTES = 1 << 20
_COMMAND_LINE_BYTES = 1 << 17
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

# Places in /proc/PID/stat behind the name (proc(5)); the image's are stack and arguments.
_STATE, _PARENT, _START = 0, 1, 19
_IMAGE = (25, 45)
UNKNOWN_IMAGE = (0, 0)

# proctrack/cgroup tracks by the freezer of v1; on v2 there is but one hierarchy.
_HIERARCHIES = ("freezer", UNIFIED, "memory", "cpuacct", "devices")


@dataclass(kw_only=True, slots=True)
class Process:
    """A process of the job.

    `image` tells which program was started when: a fork has its parent's, since the addresses of stack and arguments
    are random. Times are epoch seconds, but for `judged_s` and `look_next_s`, which are monotonic: when it was last
    decided what it is, and when it is to be looked at again.
    """

    pid: int
    parent: int = 0
    start_ticks: int = 0
    started_at: float = 0.0
    image: tuple[int, ...] = UNKNOWN_IMAGE
    is_shell: bool = False
    executable: str = ""
    judged_s: float = 0.0
    look_next_s: float = 0.0
    can_wait: bool = False
    looked_at: float | None = None
    """When it was last seen to run no eval."""
    files: OpenFiles | None = None
    paths: Paths | None = None
    cwd: str | None = None
    pidfd: int = -1
    program: Program | None = None
    ranks: tuple[str, ...] = ()
    """What tells the processes of a parallel program apart."""

    def know(self, fields: list[bytes]) -> None:
        """Take over from /proc/PID/stat what never changes.

        Raises:
            IndexError, ValueError: the kernel has another form of it.
        """
        if not self.start_ticks:
            self.parent, self.start_ticks = int(fields[_PARENT]), int(fields[_START])
            self.started_at = _time_of(self.start_ticks)

    def is_fork_of(self, other: Process) -> bool:
        """Whether both run what was started once. Another user's addresses are 0."""
        return all(self.image) and self.image == other.image

    def where(self, written: Written) -> str | None:
        """The path at which the sampler finds a log of this process's; None where that is not certain."""
        path = written.log
        if written.directory_sha256 is not None or self.paths is None:
            return None
        if "://" not in path and not path.startswith("/"):
            if self.cwd is None:
                return None
            path = os.path.normpath(f"{self.cwd}/{path}")
        return self.paths.outside(path)


@dataclass(kw_only=True, slots=True)
class Program:
    """One eval program; its first process gives its name, arguments and directory."""

    first: Process
    table: WatchedProgram
    command_line: CommandLine | None
    started_at: float
    directory: str | None
    environment: dict[str, str]
    processes: list[Process] = field(default_factory=list)
    count: int = 0
    ended_at: float | None = None
    written: dict[Written, str | None] = field(default_factory=dict)
    """The logs, and where we find them: None where that is not certain."""
    is_cut: bool = False
    is_in_pid_namespace: bool = False

    def entry(self) -> dict[str, Any]:
        """Its entry in the job's report. The exit status of a process that is no child of evalmon's is unknown."""
        line = self.command_line
        return {
            "kind": self.table.kind,
            "pid": self.first.pid,
            "start_ticks": self.first.start_ticks,
            "started_at": round(self.started_at, 2),
            "ended_at": None if self.ended_at is None else round(self.ended_at, 2),
            "known_by": "open-file" if line is None else "command-line",
            "verb": None if line is None else line.verb,
            "words": None if line is None else line.words,
            "options": None if line is None else line.options,
            "environment": self.environment,
            "cwd": self.directory,
            "processes": self.count,
            "is_in_pid_namespace": self.is_in_pid_namespace,
            "wrote": self._wrote(),
            "is_cut": self.is_cut,
        }

    def _wrote(self) -> list[dict[str, Any]]:
        """One entry a log, unless logs in several directories have one name."""
        by_name: dict[str, list[dict[str, Any]]] = {}
        for written, path in self.written.items():
            entry = _log_entry(written, path)
            by_name.setdefault(entry["name"], []).append(entry)
        return [entry for entries in by_name.values() for entry in _merged(entries)]

    def has_rank(self, process: Process, line: CommandLine) -> bool:
        """Whether it is one of the processes of this program, which is a parallel one."""
        is_same = (
            self.table.has_ranks
            and self.command_line == line
            and (process.parent, process.cwd) == (self.first.parent, self.first.cwd)
        )
        return is_same and all(process.ranks != other.ranks for other in self.processes)

    def add_logs_of(self, process: Process) -> bool:
        """Add what its open files name; whether there was anything new."""
        files = process.files
        if files is None:
            return False
        before = (dict(self.written), self.is_cut, self.is_in_pid_namespace)
        self.is_cut |= files.is_cut
        self.is_in_pid_namespace |= files.is_in_pid_namespace
        for written in files.written:
            if self.written.get(written) is None:
                self.written[written] = process.where(written)
        return before != (self.written, self.is_cut, self.is_in_pid_namespace)


def variables_of(pid: int, names: tuple[str, ...]) -> dict[str, str]:
    """These variables of a process's environment; the rest is not kept.

    Raises:
        OSError: the process is gone, or another user's.
    """
    variables: dict[str, str] = {}
    for entry in read(pid, "environ")[:_ENVIRONMENT_BYTES].split(b"\0"):
        name, equals, value = entry.partition(b"=")
        text = name.decode("ascii", "replace")
        if equals and text in names:
            variables.setdefault(text, without_credentials(os.fsdecode(value)))
    return variables


def program_in(pid: int, image: tuple[int, ...]) -> tuple[str, tuple[int, ...], list[str]]:
    """The executable, the image and the command line, all before or all after an exec.

    Args:
        pid: of the process.
        image: what its image was just now.

    Raises:
        OSError: the process is gone, or another user's.
    """
    while True:
        executable = os.readlink(f"/proc/{pid}/exe")
        words = os.fsdecode(read(pid, "cmdline")[:_COMMAND_LINE_BYTES]).rstrip("\0").split("\0")
        before, image = image, image_in(stat_fields(pid))
        if image == before:
            return executable, image, words


def image_in(fields: list[bytes]) -> tuple[int, ...]:
    """The image (see Process) that the fields of /proc/PID/stat tell."""
    return tuple(int(fields[place]) for place in _IMAGE)


def has_ended(fields: list[bytes]) -> bool:
    """Whether it only waits for its parent to take note of its end."""
    return fields[_STATE] in {b"Z", b"X"}


def _time_of(start_ticks: int) -> float:
    """Epoch seconds of a time that /proc/PID/stat gives in ticks since the start of the machine."""
    since_boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.time() - since_boot_s + start_ticks / _TICKS_PER_S


def _log_entry(written: Written, path: str | None) -> dict[str, Any]:
    """`path` where it is known, else the log's name and, if that is known, its directory's digest."""
    return {
        "path": None if path is None else without_credentials(path),
        "name": written.log.rpartition("/")[2],
        "directory_sha256": written.directory_sha256,
        "known_by": [written.known_by],
    }


def _merged(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of logs with one name: one that was known by its name and one by a line are the same log."""
    if sorted(entry["known_by"] for entry in entries) != [[LINE], [NAME]]:
        return entries
    by_line, by_name = sorted(entries, key=lambda entry: entry["known_by"] == [NAME])
    return [by_line | {"directory_sha256": by_name["directory_sha256"], "known_by": [LINE, NAME]}]


@dataclass(frozen=True, slots=True)
class JobProcesses:
    """How the job's processes are known: `pids` lists those that run now, or raises OSError; to be asked `every_s`."""

    name: str
    every_s: float
    pids: Callable[[], list[int]]


def job_processes(job_id: str) -> JobProcesses:
    """The job's cgroup, else whoever has the job's id in its environment."""
    try:
        directories = job_directories(job_id)
        for directory in (directories[name] for name in _HIERARCHIES if name in directories):
            if os.getpid() in pids_in(directory):
                return JobProcesses("cgroup", 1.0, partial(pids_in, directory))
    except (OSError, ValueError):
        pass
    return JobProcesses("environment", 10.0, _ByEnvironment(job_id).pids)


class _ByEnvironment:
    def __init__(self, job_id: str) -> None:
        self._entry = f"SLURM_JOB_ID={job_id}".encode()
        self._is_in_job: dict[int, bool] = {}

    def pids(self) -> list[int]:
        """This user's processes with the job's id in their environment, and children of those."""
        pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
        before, self._is_in_job = self._is_in_job, {}
        for pid in pids:
            self._is_in_job[pid] = before[pid] if pid in before else self._has_the_id(pid)
        return [pid for pid, is_in_job in self._is_in_job.items() if is_in_job]

    def _has_the_id(self, pid: int) -> bool:
        try:
            if os.stat(f"/proc/{pid}").st_uid != os.geteuid():
                return False
            environ = read(pid, "environ").split(b"\0")
            if any(entry.startswith(b"SLURM_JOB_ID=") for entry in environ):
                return self._entry in environ
            return self._is_in_job.get(parent_of(pid), False)
        except OSError:
            return False
