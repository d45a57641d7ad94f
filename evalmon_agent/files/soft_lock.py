"""A lock that is a name's existence, for file systems whose flock is seen by one node only.

The marker appears whole or not at all, so a kill leaves none that names nobody (`marker`). A marker whose process is
certainly gone is removed by one process; one whose process lives, or may live elsewhere, never is, however old.
"""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable

from evalmon_agent.files import marker
from evalmon_agent.files.holder import Holder, this_process

_perhaps_ours: set[str] = set()
"""Where a marker of ours may stand that stands for nothing: making or removing it failed, whether it was done or not.

Anywhere else what bears our name is not ours: a client's cache may show our last marker where another's stands now.
"""

_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.25

holder_of = marker.holder_of


def acquire(path: str, gives_up: Callable[[], bool]) -> bool:
    """Make the marker at `path`; False if somebody else had it until `gives_up` said so.

    Promises: one process at a time has it; a marker whose process is certainly gone is removed, by one process;
    one whose process lives, or may live on another host, never is. OSError: the file system says so;
    FileExistsError: what stands there is no marker, and will not go.
    """
    return _wait(lambda: _try(path), gives_up)


def release(path: str) -> None:
    """Remove our marker; one that cannot be removed now is found again by the next `acquire`, or when we are gone."""
    holder = holder_of(path)
    if holder not in {this_process(), None}:
        return
    try:
        marker.remove(path)
    except FileNotFoundError:
        pass
    except OSError:
        _perhaps_ours.add(path)


def remove_marker_of(path: str, gone: Holder, *, wait_s: float = 5.0) -> bool:
    """Remove the marker of a process that certainly ended; False if it has gone already.

    Nobody but us removes it meanwhile: who may do so holds a lock that is named after the process that ended.
    (Named as a temporary file, so that it is swept where its holder was killed: then nobody wants it any more.)
    """
    directory, name = os.path.split(path)
    right = os.path.join(directory, f".{name}.{hashlib.sha256(gone.text).hexdigest()[:16]}.tmp")
    deadline = time.monotonic() + wait_s
    if not _wait(lambda: _try(right), lambda: time.monotonic() >= deadline):
        return False
    try:
        is_there = holder_of(path) == gone and marker.is_current(path)
        if is_there:
            marker.remove(path)
    except FileNotFoundError:
        return False
    else:
        return is_there
    finally:
        release(right)


def _wait(attempt: Callable[[], bool], gives_up: Callable[[], bool]) -> bool:
    pause_s = _FIRST_WAIT_S
    while not attempt():
        if gives_up():
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _LONGEST_WAIT_S)
    return True


def _try(path: str) -> bool:
    try:
        if marker.publish(path, this_process()):
            _perhaps_ours.discard(path)
            return True
    except OSError:
        _perhaps_ours.add(path)
        raise
    holder = holder_of(path)
    if holder == this_process() and path in _perhaps_ours and marker.is_current(path):
        _perhaps_ours.discard(path)
        return True
    if holder is not None and holder.is_gone:
        remove_marker_of(path, holder)
    elif holder is None and not marker.is_marker(path):
        raise FileExistsError(errno.EEXIST, "not a lock of evalmon's", path)
    return False
