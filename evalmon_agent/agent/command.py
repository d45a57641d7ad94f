"""Finds the command's program and starts it, as a child or in place of `run`, with all that `run` inherited.

Python at its start ignores SIGPIPE and SIGXFSZ, and in the C locale it puts LC_CTYPE into its own environment
(PEP 538). `run` itself holds all signals back (signals.py). None of that is the command's business.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from evalmon_agent.files.proc import own_cgroups, read
from evalmon_agent.files.trusted import open_file
from evalmon_agent.words.shebang import FIRST_LINE_BYTES, interpreter_of

_SHELL = "/bin/sh"

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "busybox", "ksh", "ksh93", "mksh", "zsh"})

# As submission/launcher.py, which this room does not know, writes them.
_ENTRY = b"EVALMON_ENVIRON_"
_ADDED = (b"EVALMON_DIR", b"EVALMON_NAME", b"EVALMON_OUTPUT_DIR", b"EVALMON_JOB_ID")
_RETRY_LOG = b"EVALMON_RETRY_LOG"


class Command(NamedTuple):
    """A program (a path, or a name to be looked up in PATH) and its argv."""

    program: str
    argv: list[str]

    def spawn(self, inherited: Inherited, *, leads_group: bool = False) -> int:
        """Start it as a child, with the same state as if it had replaced this process; returns its pid.

        `leads_group`: of a process group of its own, see may_lead_a_group.

        One trace of posix_spawn: glibc's two internal signals (32, 33) are ignored in it, which glibc
        undoes itself.

        Raises:
            OSError: it does not exist, is not a program, or no process can be created.
        """
        group: dict[str, Any] = {"setpgroup": 0} if leads_group else {}
        try:
            return os.posix_spawnp(
                self.program,
                self.argv,
                inherited.environment,
                setsigmask=inherited.mask,
                setsigdef=inherited.to_default,
                **group,
            )
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            return self._for_the_shell().spawn(inherited, leads_group=leads_group)

    def replace_us(self, inherited: Inherited) -> NoReturn:
        """Become the command: it runs as without evalmon.

        Raises:
            OSError: as spawn.
        """
        for number in inherited.to_default:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, inherited.mask)
        try:
            os.execvpe(self.program, self.argv, inherited.environment)  # noqa: S606 (an argv, no shell)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            self._for_the_shell().replace_us(inherited)

    def _for_the_shell(self) -> Command:
        """The command for a file that is neither a binary nor names an interpreter: the shell runs it (execvp(3))."""
        import shutil  # noqa: PLC0415 (imports the compressors, seldom needed)

        path = shutil.which(self.program) or self.program
        return Command(_SHELL, [_SHELL, path, *self.argv[1:]])


class Run:
    """What one `run` knows of its command. Stamps are epoch seconds, `elapsed_s` is monotonic.

    Attributes:
        sampler_status: JSON of SamplerStatus.entry; empty while the command runs, and if the sampler said nothing.
        sampler_trouble: why there was no sampler, or how it ended other than by itself.
        observed_evals: JSON of `witness` and `programs`, see witness.py; empty if nothing looked.
    """

    def __init__(self, program: str, pid: int) -> None:
        """It has just been started."""
        self.program = program
        self.pid = pid
        self.started_at, self._started_s = time.time(), time.monotonic()
        self.ended_at: float | None = None
        self._elapsed_s: float | None = None
        self._exit_code: int | None = None
        self._signal: int | None = None
        self.sampler_status = b""
        self.sampler_trouble = ""
        self.observed_evals = b""

    def has_ended(self, status: int) -> None:
        """It has just ended, with this wait status."""
        self.ended_at, self._elapsed_s = time.time(), time.monotonic() - self._started_s
        code = os.waitstatus_to_exitcode(status)
        self._exit_code, self._signal = (code, None) if code >= 0 else (None, -code)

    def entry(self) -> dict[str, Any]:
        """The entry in the report's `commands`: the program's name and never its arguments, which may hold secrets."""
        name = self.program.rpartition("/")[2]
        return {"program": name, "pid": self.pid, "started_at": self.started_at, **self.end()}

    def end(self) -> dict[str, Any]:
        """How and when it ended."""
        return {
            "ended_at": self.ended_at,
            "elapsed_s": self._elapsed_s,
            "exit_code": self._exit_code,
            "signal": self._signal,
        }


def from_words(words: list[str]) -> Command:
    """The command as it was given.

    Raises:
        OSError: its name is empty (Python's posix_spawn would raise ValueError).
    """
    if not words[0]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return Command(words[0], words)


def from_script(words: list[str]) -> Command:
    """The script `words[0]` run by its own first line, as the kernel would; its mode does not matter.

    Raises:
        OSError: the script cannot be read.
    """
    with open(words[0], "rb", buffering=0) as file:
        start = file.read(FIRST_LINE_BYTES) or b""
    interpreter = interpreter_of(start) or [_SHELL]
    # A path, even if it has no slash: PATH is not for interpreter lines.
    program = interpreter[0] if "/" in interpreter[0] else f"./{interpreter[0]}"
    return Command(program, [*interpreter, *words])


def may_lead_a_group(job_id: int) -> bool:
    """Whether the command may lead a process group, as the batch script does that slurmstepd starts.

    Scripts end what they started by `kill -- -$$` or `kill 0`; without evalmon their pid is that of their group. But a
    group of its own takes the command out of the group of `run`, by which proctrack/pgid would find it. So it may only
    if `run` leads a group in place of the batch script, in a job that Slurm tracks by its cgroup.
    """
    if os.getpgrp() != os.getpid():
        return False
    try:
        return is_tracked(own_cgroups(), job_id=job_id)
    except OSError:
        return False


def is_tracked(cgroups: Mapping[str, str], *, job_id: int) -> bool:
    """Whether these cgroups are the job's. proctrack/cgroup uses v1's freezer; v2 has only one hierarchy."""
    return any(f"/job_{job_id}/" in f"{cgroups.get(name, '')}/" for name in ("freezer", ""))


class Inherited:
    """Environment, signal mask, and the signals whose default action has to be restored."""

    __slots__ = ("environment", "mask", "to_default")

    def __init__(self, mask: set[int]) -> None:
        self.mask = mask
        self.environment = _environment()
        self.to_default = {signal.SIGXFSZ} if _was_told_to_ignore_sigpipe() else {signal.SIGXFSZ, signal.SIGPIPE}


def _environment() -> dict[bytes, bytes]:
    """The environment as execve handed it over (proc(5): environ does not follow putenv).

    Below evalmon's launcher it is the one that Slurm gave to that, entry by entry, and what the launcher adds.
    """
    try:
        environment = _parsed(read("self", "environ").split(b"\0"))
    except OSError:
        environment = dict(os.environb)
    entries: list[bytes] = []
    while (entry := environment.get(b"%s%d" % (_ENTRY, len(entries)))) is not None:
        entries.append(entry)
    if not entries:
        return environment
    given = _parsed(entries)
    added = {name: environment[name] for name in _ADDED if name in environment}
    log = environment.get(_RETRY_LOG)
    if log is not None and log != given.get(_RETRY_LOG) and _is_own(log):
        added[_RETRY_LOG] = log
    return given | added


def _is_own(path: bytes) -> bool:
    """Whether the file still belongs to this user: an eval must not continue from somebody else's log."""
    try:
        os.close(open_file(os.fsdecode(path), owner=os.geteuid()))
    except OSError:
        return False
    return True


def _parsed(entries: list[bytes]) -> dict[bytes, bytes]:
    environment: dict[bytes, bytes] = {}
    for entry in entries:
        name, equals, value = entry.partition(b"=")
        if name and equals:
            environment.setdefault(name, value)  # of two, getenv(3) finds the first
    return environment


def _was_told_to_ignore_sigpipe() -> bool:
    """Whether SIGPIPE was ignored before Python ignored it; only the parent's state shows that.

    A shell ignores what its children are to ignore. Other parents may ignore it for themselves alone (Python,
    strace), and slurmstepd gives its tasks the default action (_unblock_signals in slurmstepd/mgr.c).
    """
    parent = os.getppid()
    try:
        if os.path.basename(os.readlink(f"/proc/{parent}/exe")) not in _SHELLS:
            return False
        status = read(parent, "status")
        ignored = int(status.partition(b"\nSigIgn:")[2].split(maxsplit=1)[0], 16)
    except (OSError, ValueError, IndexError):
        return False
    return bool(ignored >> (signal.SIGPIPE - 1) & 1)
