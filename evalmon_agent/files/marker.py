"""What stands for a holder of a soft lock: a name that appears whole, naming its process, or not at all.

Two ways, and each is refused while anything stands at the name, so hosts that use different ones exclude each other:

* link(2): a whole file, written aside, gets its name. Regular files are also what filelock's SoftFileLock makes.
* rename(2) of a directory, where there are no hard links: it holds the file that names the holder, and may replace
  an empty directory at most (POSIX). An empty one is what a killed `remove` left: nobody's.

Not symlink(2): clients cache what a link says (sshfs for 20 s), and a dead holder's old link was seen where a living
one's stood [ran]. Nor a file that is created and then filled: a kill in between leaves one that names nobody, and
nothing, its age least of all, proves that its maker will not go on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from evalmon_agent.files.holder import Holder, parse_holder

_MAX_BYTES = 1024
_INSIDE = "holder"
# As what a client keeps a file that is removed while somebody reads it; some forget it (sshfs) [ran].
_LEFT_BY_CLIENTS = (".fuse_hidden", ".nfs")

# Not to be had here: some FUSE and SMB file systems, object stores, and AFS across directories.
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
# How rename(2) refuses to put a directory where something stands; sftp says EPERM for everything.
_SOMETHING_THERE = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EPERM})


def publish(path: str, holder: Holder) -> bool:
    """Make the marker; False if something stands there already. OSError: the file system says so."""
    try:
        return _by_link(path, holder)
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
    # It may mean as well that something stands there already.
    return not os.path.lexists(path) and _by_directory(path, holder)


def remove(path: str) -> None:
    """Remove the marker, whichever it is. OSError: it is there still, or (a directory, emptied) names nobody now."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(path, _INSIDE))
    with contextlib.suppress(OSError):  # somebody else's marker may have taken its place at once
        os.rmdir(path)


def holder_of(path: str) -> Holder | None:
    """Whom the marker at `path` names; None if there is none, or something else."""
    try:
        text = _text(path)
    except OSError:
        return None
    return parse_holder(text)


def is_current(path: str) -> bool:
    """Whether the marker that we see is the one that is there, and not what a client's cache still has of an old one.

    Asked of the file server by giving the file a second name for a moment: of a file that was removed there, it refuses
    that [ran on GlusterFS, whose clients show small files from a cache].
    """
    if stat.S_ISDIR(os.lstat(path).st_mode):
        return True  # what is in it was opened by its path, at the server
    second = _aside(path)
    try:
        os.link(path, second, follow_symlinks=False)
    except OSError as error:
        return error.errno in NO_LINKS and os.path.lexists(path)
    os.unlink(second)
    return True


def is_marker(path: str) -> bool:
    """Whether what stands there is, or may become, a marker: if not, waiting for it to go is in vain.

    What a `remove` left of a directory, killed or because somebody read what is in it, is removed: it is nobody's.
    """
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            names = os.listdir(path)
            left = [name for name in names if name.startswith(_LEFT_BY_CLIENTS)]
            if _INSIDE not in names:
                _clear(path, left)
            return _INSIDE in names or len(left) == len(names)
    except OSError:
        return True  # it went away meanwhile, or nobody can tell
    return stat.S_ISREG(mode)  # of filelock's, which is empty at first, perhaps


def _clear(path: str, left: list[str]) -> None:
    """Remove a directory that names nobody. Should a marker have taken its place, it has no such names in it."""
    for name in left:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(path, name))
    with contextlib.suppress(OSError):
        os.rmdir(path)


def _text(path: str) -> bytes:
    if stat.S_ISDIR(os.lstat(path).st_mode):
        path = os.path.join(path, _INSIDE)
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MAX_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def _by_link(path: str, holder: Holder) -> bool:
    aside = _aside(path)
    _create(aside, holder)
    try:
        return _link(aside, path)
    finally:
        os.unlink(aside)


def _link(aside: str, path: str) -> bool:
    try:
        os.link(aside, path)
    except OSError as error:
        # On NFS a link whose answer was lost is asked for again and refused, though it is there (open(2), O_EXCL).
        if os.lstat(aside).st_nlink > 1:
            return True
        if error.errno == errno.EEXIST:
            return False
        raise
    return True


def _by_directory(path: str, holder: Holder) -> bool:
    aside = _aside(path)
    os.mkdir(aside, 0o700)
    inside = os.path.join(aside, _INSIDE)
    try:
        _create(inside, holder)
        os.rename(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(inside)
            os.rmdir(aside)
        if error.errno in _SOMETHING_THERE or os.path.lexists(path):
            return False
        raise
    return not _went_inside(path, os.path.basename(aside))


def _went_inside(path: str, name: str) -> bool:
    """Whether it was moved into the directory that was there (HDFS does that); then it is removed again."""
    inside = os.path.join(path, name)
    if not os.path.lexists(inside):
        return False
    remove(inside)
    return True


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
