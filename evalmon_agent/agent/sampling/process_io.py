"""How much did these processes read from and write to storage? From /proc/PID/io.

A process's figures include those of the children that it has waited for (wait_task_zombie in kernel/exit.c), so the
sum over the living is that of the job, less what orphans did.
"""

from __future__ import annotations

from collections.abc import Iterable

_PROCESSES_AT_MOST = 1000


def io_of(pids: Iterable[int]) -> tuple[int | None, int | None]:
    """Bytes read and written by those that let us look; None if nobody does, or if they are too many to ask."""
    read = written = 0
    is_known = False
    for number, pid in enumerate(pids):
        if number == _PROCESSES_AT_MOST:
            return None, None
        try:
            with open(f"/proc/{pid}/io", "rb", buffering=0) as file:
                text = (file.readall() or b"").decode("ascii", "replace")
        except OSError:
            continue
        read += _bytes(text, "read_bytes")
        written += _bytes(text, "write_bytes")
        is_known = True
    return (read, written) if is_known else (None, None)


def _bytes(text: str, name: str) -> int:
    for line in text.split("\n"):
        if line.startswith(name + ": "):
            return int(line[len(name) + 2 :])
    return 0
