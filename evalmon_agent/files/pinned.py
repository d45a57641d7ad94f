"""Opens a directory once; all access then goes through its descriptor, wherever its path leads later.

A user who can write to the directory above can rename it at any time, and put another one, or a link, in its place.
Paths for I/O therefore begin with `/proc/self/fd/N`, which always is the opened directory. They mean nothing to another
process: people and programs get the directory's own path (`shown`).
"""

from __future__ import annotations

import errno
import os
import re
import weakref

_FLAGS = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DESCRIPTORS = "/proc/self/fd/"
_IO_PATH = re.compile(re.escape(_DESCRIPTORS) + r"(-1|\d+)(?=/|\b)")
_paths: dict[str, str] = {}


class Pinned:
    """An open directory, and its owner at that time.

    `path`: for people; `io`: its path in this process; `owner`: a uid.
    """

    def __init__(self, path: str, *, below: Pinned | None = None, only_to_search: bool = False) -> None:
        """Open it; by its last name, if it lies `below` an open one.

        `only_to_search`: its own listing is not read, so read permission is not needed.

        Raises:
            NotADirectoryError: it is something else, such as a link.
            OSError: it does not exist, or may not be read.
        """
        self.path = path
        flags = _FLAGS | (os.O_PATH if only_to_search else os.O_RDONLY)
        name, dir_fd = (path, None) if below is None else (os.path.basename(path), below.descriptor)
        self.descriptor: int = _open(name, flags, dir_fd)
        self.io = f"{_DESCRIPTORS}{self.descriptor}"
        weakref.finalize(self, _close, self.descriptor)
        _paths[str(self.descriptor)] = path
        self._is = os.fstat(self.descriptor)

    @property
    def owner(self) -> int:
        """The uid of its owner when it was opened."""
        return self._is.st_uid

    @property
    def inode(self) -> int:
        """Its number on its file system."""
        return self._is.st_ino

    @property
    def status(self) -> os.stat_result:
        """Owner and mode as they are now."""
        return os.fstat(self.descriptor)

    @property
    def is_stale(self) -> bool:
        """Whether the file server no longer knows the opened directory."""
        try:
            os.fstat(self.descriptor)
        except OSError as error:
            return error.errno == errno.ESTALE
        return False

    def is_same(self, there: os.stat_result) -> bool:
        """Whether this is the status of the opened directory."""
        return os.path.samestat(self._is, there)

    def become(self, other: Pinned) -> None:
        """Stand for that directory from now on, with the same I/O path."""
        os.dup2(other.descriptor, self.descriptor, inheritable=False)
        self._is = other._is


def nowhere(path: str) -> str:
    """An I/O path for a directory that does not exist; it leads nowhere even if a directory is created at `path`."""
    return f"{_DESCRIPTORS}-1{path}"


def shown(text: str) -> str:
    """The text with I/O paths replaced by the directories' own paths."""
    return _IO_PATH.sub(lambda found: "" if found[1] == "-1" else _paths.get(found[1], found[0]), text)


def _open(path: str, flags: int, dir_fd: int | None) -> int:
    try:
        return os.open(path, flags, dir_fd=dir_fd)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        raise


def _close(descriptor: int) -> None:
    _paths.pop(str(descriptor), None)
    os.close(descriptor)
