"""Replaces or creates a file so that readers never see a part of it; removes what killed writers left behind."""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import suppress

# A directory that cannot be fsynced (some network and FUSE file systems say so), or not be read, is as safe as it gets.
_CANNOT_SYNC_DIRECTORY = frozenset(
    {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM}
)

NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL})
"""How a file system refuses hard links: some FUSE and SMB file systems, object stores."""

OLD_AFTER_S = 900.0
"""Far longer than any write takes, and more than the clocks of two hosts differ."""
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def replace_atomically(
    path: str | os.PathLike[str], data: bytes, *, mode: int = 0o600, dir_fd: int | None = None
) -> None:
    """Make `data` the content of `path`, on disk, with exactly this mode.

    * A reader of `path` at any time, also after a crash of the machine, gets all of the old or all of the new content.
    * A symbolic or hard link at `path` is replaced; its target is not touched.
    * The temporary file lies beside it (`.{name}.{random}.tmp`), is created with O_EXCL, and is removed unless
      the process was killed in between.

    Args:
        path: the file; relative to `dir_fd` if that is given, and then a bare name.
        data: its new content.
        mode: its permissions, whatever the umask.
        dir_fd: a descriptor of the file's directory.

    Raises:
        OSError: `path` is as it was, or, if only the directory could not be written to disk (EIO), new.
    """
    temporary = write_beside(path, data, mode=mode, dir_fd=dir_fd)
    try:
        os.replace(temporary, path, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
    except BaseException:
        _remove(temporary, dir_fd=dir_fd)
        raise
    sync_directory(os.path.dirname(temporary) or ".", dir_fd=dir_fd)


def create(path: str, data: bytes, *, is_synced: bool = True) -> bool | None:
    """Create a file with this content, whole from the start; False if the name is taken, None without hard links.

    `is_synced`: the content is on disk, too.

    Raises:
        OSError: the file could not be written or named.
    """
    temporary = write_beside(path, data, is_synced=is_synced)
    try:
        os.link(temporary, path)
    except OSError as error:
        # On NFS a link whose answer was lost is asked for again and refused, though it is there (open(2), O_EXCL).
        if os.lstat(temporary).st_nlink > 1:
            return True
        if error.errno not in {*NO_LINKS, errno.EEXIST}:
            raise
        # sftp says EPERM if the name is taken, too.
        has_links = error.errno == errno.EEXIST or os.path.lexists(path) or is_on_server(temporary)
        return False if has_links else None
    finally:
        _remove(temporary, dir_fd=None)
    return True


def is_on_server(path: str) -> bool:
    """Whether the file server has the visible file now; a client's cache may show a removed one.

    Asked by giving the file a second name for a moment: of a file that was removed on the server, it refuses that [ran
    on GlusterFS, whose clients show small files from a cache].
    """
    second = temporary_name(path)
    try:
        os.link(path, second, follow_symlinks=False)
    except OSError:
        return False
    os.unlink(second)
    return True


def temporary_name(path: str | os.PathLike[str]) -> str:
    """A new name beside `path`, which `sweep` removes if it is left there."""
    directory, name = os.path.split(os.fspath(path))
    return os.path.join(directory, f".{name}.{os.urandom(8).hex()}.tmp")


def write_beside(
    path: str | os.PathLike[str],
    data: bytes,
    *,
    mode: int = 0o600,
    dir_fd: int | None = None,
    is_synced: bool = True,
) -> str:
    """Write `data` into a new temporary file beside `path`, and return its name; `is_synced`: it is on disk, too.

    Raises:
        OSError: the file could not be written.
    """
    temporary = temporary_name(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=dir_fd)
    try:
        try:
            os.fchmod(descriptor, mode)
            _write_all(descriptor, data)
            if is_synced:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        _remove(temporary, dir_fd=dir_fd)
        raise
    return temporary


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _remove(temporary: str, *, dir_fd: int | None) -> None:
    with suppress(OSError):  # the first error is the one that matters
        os.unlink(temporary, dir_fd=dir_fd)


def sync_directory(directory: str, *, dir_fd: int | None = None) -> None:
    """Write the names in `directory` to disk, as far as its file system can."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY, dir_fd=dir_fd)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_DIRECTORY:
            raise


def sweep(directory: str, *, older_than_s: float = OLD_AFTER_S) -> int:
    """Remove the old temporary files in `directory`, and return how many there were.

    Call it under the lock, for directories that only evalmon uses. It removes only files and links (not their targets)
    with names that `replace_atomically` gives. Everything else, and what cannot be removed, stays without an error.
    """
    removed = 0
    with suppress(OSError), os.scandir(directory) as listing:
        for entry in (entry for entry in listing if _TEMPORARY.fullmatch(entry.name)):
            with suppress(OSError):
                if time.time() - entry.stat(follow_symlinks=False).st_mtime > older_than_s:
                    os.unlink(entry.path)
                    removed += 1
    return removed
