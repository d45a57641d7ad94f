"""What stands for a holder of a soft lock: a name that appears whole, naming its process, or not at all.

Three ways, the first that the file system has; each is refused while anything stands at the name, whichever way that
was made, so hosts that use different ones exclude each other:

* link(2): a whole file, written aside, gets its name. Regular files are also what filelock's SoftFileLock makes.
* symlink(2), where there are no hard links (sshfs without them, s3fs): the link's text names the holder.
* rename(2) of a directory, where there are neither (exFAT, many object stores): it holds the file that names the
  holder, and POSIX lets a directory replace an empty one at most. An empty one is what a killed `remove` left.

A file that is created first and filled then would do where none of these work, but a kill between the two leaves a
marker that names nobody, and neither its age nor anything else proves that its maker will not go on. So it is not made.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from evalmon_agent.files.holder import Holder, parse_holder

_MAX_BYTES = 1024
_INSIDE = "holder"

# Not to be had here: some FUSE and SMB file systems, object stores, and AFS across directories.
NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
# How rename(2) refuses to put a directory where something stands.
_SOMETHING_THERE = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})


def publish(path: str, holder: Holder) -> bool:
    """Make the marker; False if something stands there already. OSError: the file system says so."""
    for way in (_by_link, _by_symlink):
        try:
            return way(path, holder)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            if os.path.lexists(path):
                return False  # sftp, for one, says EPERM for that as well
    return _by_directory(path, holder)


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
    except (OSError, ValueError):
        return None
    return parse_holder(text)


def is_marker(path: str) -> bool:
    """Whether what stands there is, or may become, a marker: if not, waiting for it to go is in vain.

    What a killed `remove` left of a directory is removed: an empty one is nobody's.
    """
    try:
        mode = os.lstat(path).st_mode
        if stat.S_ISDIR(mode):
            return _is_removed(path) or holder_of(path) is not None
        # A regular file may be filelock's, which is empty at first.
        return stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and holder_of(path) is not None)
    except OSError:
        return True  # it went away meanwhile, or nobody can tell


def _is_removed(path: str) -> bool:
    try:
        os.rmdir(path)
    except OSError:
        return False
    return True


def _text(path: str) -> bytes:
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return _from_link(os.readlink(path))
    return _content(os.path.join(path, _INSIDE) if stat.S_ISDIR(mode) else path)


def _content(path: str) -> bytes:
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


def _by_symlink(path: str, holder: Holder) -> bool:
    try:
        os.symlink(_as_link(holder), path)
    except FileExistsError:
        return False
    return True


def _as_link(holder: Holder) -> str:
    return " ".join(holder.text.decode().split("\n")[:-1])


def _from_link(target: str) -> bytes:
    return "".join(f"{word}\n" for word in target.split(" ")).encode(errors="surrogateescape")


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
        if error.errno in _SOMETHING_THERE:
            return False
        raise
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
