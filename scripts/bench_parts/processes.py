"""Runs a command until its last descendant has ended; measures time, CPU, and the memory of all of them."""

import ctypes
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_PAYLOADS = frozenset({"sleep", "true", "date"})

# The first moments of a program are its busiest, so sample often then.
_OFTEN_S, _SELDOM_S, _OFTEN_UNTIL_S = 0.05, 0.5, 3.0


@dataclass(frozen=True)
class Ended:
    """A command that ran.

    Attributes:
        wall_s: until the command itself ended.
        gone_s: until the last of its descendants had ended.
        cpu_s: user and system time of all of them.
        peak_pss_mib: the most memory of all of them together, without the payload's (sleep, true, date).
        peak_uss_mib: the same without what is shared with others.
        processes: the most of them at once, without the payload.
    """

    status: int
    wall_s: float
    gone_s: float
    cpu_s: float
    peak_pss_mib: float | None = None
    peak_uss_mib: float | None = None
    processes: int | None = None


def adopt_orphans() -> None:
    """Make orphaned descendants children of this process, so that it sees their end and CPU time."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def run_to_the_end(
    argv: list[str], environment: dict[str, str], *, stdout: Path | None = None, has_memory: bool = False
) -> Ended:
    """Run `argv` while this process has no other child.

    Args:
        argv: the command.
        environment: of the command, all of it.
        stdout: where its output goes; nowhere if None.
        has_memory: measure the memory while it runs.
    """
    watcher = _MemoryWatcher() if has_memory else None
    started = time.perf_counter()
    pid = spawn(argv, environment, stdout=stdout)
    if watcher:
        watcher.start()
    wall_s = gone_s = cpu_s = 0.0
    status = -1
    for ended, its_status, its_cpu_s in _ends_of_children():
        gone_s = time.perf_counter() - started
        cpu_s += its_cpu_s
        if ended == pid:
            wall_s, status = gone_s, os.waitstatus_to_exitcode(its_status)
    if watcher:
        watcher.stop()
        return Ended(status, wall_s, gone_s, cpu_s, watcher.peak_pss_mib, watcher.peak_uss_mib, watcher.processes)
    return Ended(status, wall_s, gone_s, cpu_s)


def spawn(argv: list[str], environment: dict[str, str], *, stdout: Path | None = None) -> int:
    """Start `argv` without input, and with no output but `stdout`; returns its pid."""
    out = str(stdout) if stdout else os.devnull
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ]
    return os.posix_spawnp(argv[0], argv, environment, file_actions=files)


def cpu_of(pid: int) -> float:
    """Seconds of CPU time of a process so far, including ended threads, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | 2)  # the process's own clock: clock_getcpuclockid(3)


def memory_of(pid: int) -> tuple[float, float]:
    """PSS and USS in MiB.

    Raises:
        OSError: it is gone.
    """
    fields: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0])
    return fields["Pss"] / 1024, (fields["Private_Clean"] + fields["Private_Dirty"]) / 1024


def _ends_of_children() -> Iterator[tuple[int, int, float]]:
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return
        yield pid, status, usage.ru_utime + usage.ru_stime


class _MemoryWatcher(threading.Thread):
    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_pss_mib = self.peak_uss_mib = 0.0
        self.processes = 0
        self._over = threading.Event()

    def run(self) -> None:
        started = time.monotonic()
        while not self._over.is_set():
            pss_mib, uss_mib, processes = _memory_below_us()
            self.peak_pss_mib = max(self.peak_pss_mib, pss_mib)
            self.peak_uss_mib = max(self.peak_uss_mib, uss_mib)
            self.processes = max(self.processes, processes)
            is_early = time.monotonic() - started < _OFTEN_UNTIL_S
            self._over.wait(_OFTEN_S if is_early else _SELDOM_S)

    def stop(self) -> None:
        self._over.set()
        self.join()


def _memory_below_us() -> tuple[float, float, int]:
    pss_mib = uss_mib = 0.0
    processes = 0
    for pid in _descendants(os.getpid()):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() in _PAYLOADS:
                continue
            its_pss_mib, its_uss_mib = memory_of(pid)
        except (OSError, KeyError):
            continue  # it has ended
        pss_mib, uss_mib, processes = pss_mib + its_pss_mib, uss_mib + its_uss_mib, processes + 1
    return pss_mib, uss_mib, processes


def _descendants(pid: int) -> list[int]:
    descendants = []
    waiting = [pid]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            try:
                children = [int(word) for word in task.read_text().split()]
            except OSError:
                continue
            descendants += children
            waiting += children
    return descendants
