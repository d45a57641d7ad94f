"""Takes and releases a lock that is a file's existence, for file systems whose flock is seen by one node only.

The file, the marker, is written aside and gets its name by link(2): it appears whole, naming its process, or not at
all, so a kill leaves none that names nobody. Regular files are also what filelock's SoftFileLock makes: its locks and
ours obey each other. A marker whose process is certainly gone is removed by one process; one whose process lives, or
may live elsewhere, never is, however old.

Not symlink(2): clients cache what a link says (sshfs for 20 s), and a dead holder's old link was seen where a living
one's stood [ran]. Nor a file that is created and then filled: a kill in between leaves one that names nobody, and
nothing, its age least of all, proves that its maker will not go on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
import time
from collections.abc import Callable

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.files.holder import Holder, parse_holder, this_process

# How a file system refuses hard links: some FUSE and SMB file systems, object stores.
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})

_MAX_BYTES = 1024
_FIRST_WAIT_S = 0.005
_LONGEST_WAIT_S = 0.25

_perhaps_ours: set[str] = set()
"""Where a marker of ours may stand that stands for nothing: making or removing it failed, whether it was done or not.

Anywhere else what bears our name is not ours: a client's cache may show our last marker where another's stands now.
"""


def acquire(path: str, gives_up: Callable[[], bool]) -> bool:
    """Make the marker at `path`; False if somebody else had it until `gives_up` said so.

    Promises: one process at a time has it; a marker whose process is certainly gone is removed, by one process;
    one whose process lives, or may live on another host, never is.

    Raises:
        LockUnavailableError: there are no hard links here.
        FileExistsError: what stands there is no marker.
        OSError: the file system says so.
    """
    return _wait(lambda: _try(path), gives_up)


def release(path: str) -> None:
    """Remove our marker; one that cannot be removed now is found again by the next `acquire`, or when we are gone."""
    if holder_of(path) not in {this_process(), None}:
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError:
        _perhaps_ours.add(path)


def holder_of(path: str) -> Holder | None:
    """Whom the marker at `path` names; None if there is none, or something else."""
    try:
        return parse_holder(_text(path))
    except OSError:
        return None


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
        is_there = holder_of(path) == gone and _is_current(path)
        if is_there:
            os.unlink(path)
    except FileNotFoundError:
        return False
    else:
        return is_there
    finally:
        release(right)


def marker_works(directory: str) -> bool:
    """Whether a marker can be made there. OSError: the file system is full, or away for now."""
    path = os.path.join(directory, f".marker.{os.urandom(8).hex()}.tmp")
    try:
        made = _publish(path, this_process())
    except LockUnavailableError:
        return False
    is_ours = made and holder_of(path) == this_process()
    os.unlink(path)
    return is_ours


def no_lock(path: str) -> LockUnavailableError:
    """What to say where neither kind of lock can be had."""
    return LockUnavailableError(
        f"{path}: no lock can be had on this file system, which has neither flock across nodes nor hard links; use "
        "another file system for the experiment"
    )


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
        if _publish(path, this_process()):
            _perhaps_ours.discard(path)
            return True
    except OSError:
        _perhaps_ours.add(path)
        raise
    holder = holder_of(path)
    if holder == this_process() and path in _perhaps_ours and _is_current(path):
        _perhaps_ours.discard(path)
        return True
    if holder is not None and holder.is_gone:
        remove_marker_of(path, holder)
    elif holder is None and not _may_become_one(path):
        raise FileExistsError(errno.EEXIST, "not a lock of evalmon's", path)
    return False


def _publish(path: str, holder: Holder) -> bool:
    """Make the marker; False if something stands there already."""
    aside = _aside(path)
    _create(aside, holder)
    try:
        os.link(aside, path)
    except OSError as error:
        # On NFS a link whose answer was lost is asked for again and refused, though it is there (open(2), O_EXCL).
        if os.lstat(aside).st_nlink > 1:
            return True
        if error.errno in NO_LINKS:
            # sftp says EPERM also where something stands.
            if not os.path.lexists(path) and not _is_current(aside):
                raise no_lock(path) from None
        elif error.errno != errno.EEXIST:
            raise
        return False
    finally:
        os.unlink(aside)
    return True


def _is_current(path: str) -> bool:
    """Whether the file that we see is the one that is there, and not what a client's cache still has of an old one.

    Asked of the file server by giving the file a second name for a moment: of a file that was removed there, it refuses
    that [ran on GlusterFS, whose clients show small files from a cache].
    """
    second = _aside(path)
    try:
        os.link(path, second, follow_symlinks=False)
    except OSError:
        return False
    os.unlink(second)
    return True


def _may_become_one(path: str) -> bool:
    """Whether what stands there may go, or name a holder yet: filelock's marker is empty at first."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return True


def _text(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MAX_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def _aside(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.{os.urandom(8).hex()}.tmp")


def _create(path: str, holder: Holder) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, holder.text)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)
