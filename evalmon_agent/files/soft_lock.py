"""A lock that is a name's existence, for file systems whose flock is seen by one node only.

The marker appears whole or not at all, so a kill leaves none that names nobody (`marker`). A marker whose process is
certainly gone is removed by one process; one whose process lives, or may live elsewhere, never is, however old.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable

from evalmon_agent.files import marker
from evalmon_agent.files.holder import Holder, this_process

_held: set[str] = set()
"""The markers of this process that stand for a transaction of it."""

_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.25

holder_of = marker.holder_of


def acquire(path: str, *, wait_s: float) -> bool:
    """Make the marker at `path`; False if somebody else had it for `wait_s`.

    Promises: one process at a time has it; a marker whose process is certainly gone is removed, by one process;
    one whose process lives, or may live on another host, never is. OSError: the file system says so;
    FileExistsError: what stands there is no marker, and will not go.
    """
    if not _wait(lambda: _try(path), wait_s=wait_s):
        return False
    _held.add(path)
    return True


def release(path: str) -> None:
    """Remove our marker; one that cannot be removed now is found again by the next `acquire`, or when we are gone."""
    _held.discard(path)
    with contextlib.suppress(OSError):
        if holder_of(path) == this_process():
            marker.remove(path)


def remove_marker_of(path: str, gone: Holder, *, wait_s: float = 5.0) -> bool:
    """Remove the marker of a process that certainly ended; False if it has gone already.

    Nobody but us removes it meanwhile: who may do so holds a lock that is named after the process that ended.
    (Named as a temporary file, so that it is swept where its holder was killed: then nobody wants it any more.)
    """
    directory, name = os.path.split(path)
    right = os.path.join(directory, f".{name}.{hashlib.sha256(gone.text).hexdigest()[:16]}.tmp")
    if not _wait(lambda: _try(right), wait_s=wait_s):
        return False
    try:
        if holder_of(path) != gone:
            return False
        marker.remove(path)
        return True
    finally:
        release(right)


def _wait(attempt: Callable[[], bool], *, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    pause_s = _FIRST_WAIT_S
    while not attempt():
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return False
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 1.5, _LONGEST_WAIT_S)
    return True


def _try(path: str) -> bool:
    if marker.publish(path, this_process()):
        return True
    holder = holder_of(path)
    if holder == this_process() and path not in _held:
        return True  # ours, which could not be removed when we released it
    if holder is not None and holder.is_gone:
        remove_marker_of(path, holder)
    elif holder is None and not marker.is_marker(path):
        raise FileExistsError(errno.EEXIST, "not a lock of evalmon's", path)
    return False
