"""Starts, recognises, ends and finds processes that outlive this program."""

import errno
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

# No such process; or the number is that of a thread by now, which kernels report in two ways.
_GONE = frozenset({errno.ESRCH, errno.EINVAL, errno.ENOENT})

# In every daemon's environment: the directory of its instance. Jobs have their own environment.
MARK = "EVALMON_SLURM_DAEMON_OF"


@dataclass(frozen=True)
class Process:
    """One certain process: a pid alone may be reused."""

    pid: int
    start_ticks: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The process that has this pid now; None if there is none, or only a zombie."""
        stat = _stat(pid)
        if stat is None or stat[0] in "ZX":
            return None
        return cls(pid, int(stat[19]), _boot_id())

    def alive(self) -> bool:
        """Whether this process is still running."""
        return Process.of(self.pid) == self

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to this process and never another; nothing happens if it has ended."""
        descriptor = self._open()
        if descriptor is None:
            return
        try:
            if self.alive():
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signum)
        finally:
            os.close(descriptor)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; False if it still runs after `timeout_s`."""
        descriptor = self._open()
        if descriptor is None:
            return True
        try:
            if self.alive():
                select.select([descriptor], [], [], max(timeout_s, 0))
            return not self.alive()
        finally:
            os.close(descriptor)

    def _open(self) -> int | None:
        try:
            return os.pidfd_open(self.pid)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise


def spawn(argv: list[str], *, env: dict[str, str], cwd: str, output_path: str) -> Process | None:
    """Start a process in its own session, its output appended to a file; None if it died at once."""
    with open(output_path, "ab") as output:
        child = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    child.returncode = 0  # it outlives this program: no warning about a child not waited for
    return Process.of(child.pid)


def end(processes: Iterable[Process], *, grace_s: float) -> None:
    """Send TERM, wait up to `grace_s` for all of them together, then send KILL."""
    processes = list(processes)
    if grace_s > 0:
        for process in processes:
            process.send(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for process in processes:
            process.wait(deadline - time.monotonic())
    for process in processes:
        process.send(signal.SIGKILL)
    for process in processes:
        process.wait(5)


def everyone() -> Iterator[Process]:
    """All processes of this machine."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (process := Process.of(int(name))):
            yield process


def environment(pid: int) -> dict[bytes, bytes]:
    """The initial environment of a process; empty if it ended or belongs to another user."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return {}
    return {name: value for name, found, value in (entry.partition(b"=") for entry in entries) if found}


def name(pid: int) -> str:
    """The kernel's name of a process; empty if it ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def open_paths(pid: int) -> list[str]:
    """The paths of a process's open files; empty if it ended or belongs to another user."""
    found = []
    with suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.append(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return found


def parent(pid: int) -> int | None:
    """The pid of a process's parent; None if it ended."""
    stat = _stat(pid)
    return None if stat is None else int(stat[1])


def argv(pid: int) -> list[str]:
    """The command line of a process; empty if it ended, or is a kernel thread."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return [os.fsdecode(word) for word in file.read().split(b"\0")[:-1]]
    except OSError:
        return []


def descendants(ancestors: Iterable[Process]) -> list[Process]:
    """The living children, grandchildren and so on of some processes, without these themselves."""
    children: dict[int, list[Process]] = {}
    for process in everyone():
        if (pid := parent(process.pid)) is not None:
            children.setdefault(pid, []).append(process)
    found: list[Process] = []
    front = [process.pid for process in ancestors]
    while front:
        generation = [child for pid in front for child in children.pop(pid, [])]
        found += generation
        front = [child.pid for child in generation]
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on (proc(5): 3 state, 4 ppid, 22 starttime)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
