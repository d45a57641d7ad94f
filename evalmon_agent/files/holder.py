"""Names the process that holds a soft lock, and tells whether it is gone for certain.

A marker's text is that of filelock's SoftFileLock (pid, host, start, a line each), so its locks and ours obey each
other.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache

_START_FIELD = 19  # of /proc/PID/stat, counted behind the name in parentheses (proc(5): starttime)
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC
_HOST_CHARS = 253
_ENDED = -1


@dataclass(frozen=True, slots=True)
class Holder:
    """A process on a host. `start`: the boot's id and the clock tick of its start; None where nobody can tell."""

    pid: int
    host: str
    start: int | None = None

    @property
    def text(self) -> bytes:
        """What stands in the marker."""
        lines = [str(self.pid), self.host, *([] if self.start is None else [str(self.start)])]
        return "".join(f"{line}\n" for line in lines).encode()

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process that we could see."""
        return self.host == this_host()

    @property
    def is_gone(self) -> bool:
        """Whether it is certain that the process ended; of another host nothing is certain."""
        if not self.is_here:
            return False
        started = _start_of(self.pid)
        if started is None:
            return not os.path.exists(f"/proc/{self.pid}") and os.path.exists("/proc/self/stat")
        return started == _ENDED or (self.start is not None and started != self.start)


def this_process() -> Holder:
    """We as a holder; the same for the whole life of a process."""
    return _as_holder(os.getpid())


def parse_holder(text: bytes) -> Holder | None:
    """The holder that a marker names; None for anything else."""
    lines = text.split(b"\n")
    if not 3 <= len(lines) <= 4 or lines[-1] or not all(lines[:-1]):
        return None
    pid, host, *start = (line.decode("ascii", "replace") for line in lines[:-1])
    if not all(number.isdecimal() and number.isascii() and len(number) <= 60 for number in (pid, *start)):
        return None
    return Holder(int(pid), host, int(start[0]) if start else None)


def this_host() -> str:
    """Our host's name, and our PID namespace unless it is the host's own: a PID means nothing outside of it."""
    name = "".join(c if "!" <= c <= "~" and c != "?" else f"?{ord(c):02x}" for c in socket.gethostname())
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        namespace = _INITIAL_PID_NAMESPACE
    suffix = "" if namespace == _INITIAL_PID_NAMESPACE else f"?pidns-{namespace:x}"
    return (name[: _HOST_CHARS - len(suffix)] + suffix) or "?"


@lru_cache(maxsize=1)
def _as_holder(pid: int) -> Holder:
    return Holder(pid, this_host(), _start_of(pid))


def _start_of(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        if fields[0] in {b"Z", b"X"}:
            return _ENDED  # though its parent has not looked yet
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot_id = int(file.read().strip().replace("-", ""), 16)
        return (boot_id << 64) | int(fields[_START_FIELD])
    except (OSError, ValueError, IndexError):
        return None
