"""Opens and reads the files of one user, without following a symbolic link of another.

Users who can write to a directory can replace a file there by a link. A link is followed only if it belongs to the
files' owner or to root, wherever it is in the path. Standard library only: the agent opens its files in this way, too.

Each component is opened by the descriptor of the one before, so what was checked is what is used. At most 40 links are
followed, as by the kernel. Opening never waits for a FIFO or a device. A file is opened once, and its status and
content are read by that descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_LINKS_AT_MOST = 40
_CHUNK_BYTES = 1 << 24

# O_DIRECTORY, so that an automounted directory gets mounted, which O_PATH alone would not do.
_STEP = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_START = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_LINK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_LISTING = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Followed by the number of a descriptor of this process: that link leads to exactly what is open.
_OPEN = "/proc/self/fd/"

# How open(2) refuses a link under O_NOFOLLOW, without and with O_DIRECTORY.
_PERHAPS_A_LINK = frozenset({errno.ELOOP, errno.ENOTDIR})

_FOREIGN_AT_MOST = 20


class ForeignError(PermissionError):
    """The file `filename` belongs to another user, whose number is `uid`."""

    def __init__(self, path: str, uid: int) -> None:
        super().__init__(errno.EPERM, f"belongs to user {uid}", path)
        self.uid = uid


def open_file(path: str | os.PathLike[str], *, owner: int) -> int:
    """A descriptor to read a regular file of the owner or root.

    A file with several names counts under each of them: a user who can make one can also move the file there.

    Raises:
        ForeignError: the file, or a link on the way, belongs to another user.
        OSError: it does not exist or may not be read; EINVAL if it is not a regular file.
    """
    path = os.fspath(path)
    descriptor = _open(path, _FILE, owner=owner)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if status.st_uid not in {owner, 0}:
            raise ForeignError(path, status.st_uid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_listing(path: str | os.PathLike[str], *, owner: int) -> int:
    """A descriptor to list a directory, whoever owns it.

    Raises:
        ForeignError: a link on the way belongs to another user.
        OSError: it does not exist, is not a directory, or may not be read.
    """
    return _open(os.fspath(path), _LISTING, owner=owner)


def open_directory(path: str | os.PathLike[str], *, owner: int, is_made: bool = False) -> int:
    """A descriptor (O_PATH) to use as `dir_fd`. `is_made`: missing directories are made, as by os.makedirs.

    Raises:
        ForeignError: a link on the way belongs to another user.
        OSError: it is not a directory, or cannot be created.
    """
    return _open(os.fspath(path), _STEP, owner=owner, is_made=is_made)


def _open(path: str, flags: int, *, owner: int, is_made: bool = False) -> int:
    """Walk to the end of the path, and open that with these flags."""
    _refuse_unusable(path)
    where, rest = _start(path)
    left, links = _reversed_parts(rest), 0
    here = os.open(where, _START)
    try:
        while left:
            name = left.pop()
            try:
                there = _step(name, _STEP if left else flags, dir_fd=here, is_made=is_made)
            except OSError as error:
                links += 1
                target = _target(name, error, dir_fd=here, owner=owner, where=where, path=path)
                if links > _LINKS_AT_MOST:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path) from None
                left += _reversed_parts(target)
                if not target.startswith("/"):
                    continue
                there, name = os.open("/", _STEP), "/"
            os.close(here)
            here, where = there, os.path.join(where, name)
    except BaseException:
        os.close(here)
        raise
    return here


def _refuse_unusable(path: str) -> None:
    """OSError for an impossible path: with a NUL, or with characters that no file system has."""
    try:
        is_usable = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_usable = False
    if not is_usable:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)


def _start(path: str) -> tuple[str, str]:
    """Where the walk begins, and the rest of the path; a directory that is already open is given by its descriptor."""
    if path.startswith(_OPEN):
        number, _, rest = path[len(_OPEN) :].partition("/")
        return _OPEN + number, rest
    return ("/" if path.startswith("/") else "."), path


def _reversed_parts(path: str) -> list[str]:
    """The components, the first one last; never none."""
    return [part for part in reversed(path.split("/")) if part not in {"", "."}] or ["."]


def _step(name: str, flags: int, *, dir_fd: int, is_made: bool) -> int:
    try:
        return os.open(name, flags, dir_fd=dir_fd)
    except FileNotFoundError:
        if not is_made:
            raise
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=dir_fd)
    return os.open(name, flags, dir_fd=dir_fd)


def _target(name: str, error: OSError, *, dir_fd: int, owner: int, where: str, path: str) -> str:
    """The target of a link that could not be opened as a directory or file; the error if it is not a link."""
    refusal = OSError(error.errno, error.strerror, path)
    if error.errno not in _PERHAPS_A_LINK:
        raise refusal from None
    try:
        link = os.open(name, _LINK, dir_fd=dir_fd)
    except OSError:
        raise refusal from None
    try:
        status = os.fstat(link)
        if not stat.S_ISLNK(status.st_mode):
            raise refusal from None
        if status.st_uid not in {owner, 0}:
            raise ForeignError(os.path.normpath(os.path.join(where, name)), status.st_uid) from None
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def read_at(descriptor: int, offset: int, count_bytes: int) -> bytes:
    """`count_bytes` from `offset` on, fewer at the end of the file.

    Raises:
        OSError: it cannot be read.
    """
    chunks: list[bytes] = []
    while count_bytes > 0 and (chunk := os.pread(descriptor, min(count_bytes, _CHUNK_BYTES), offset)):
        chunks.append(chunk)
        offset += len(chunk)
        count_bytes -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class OwnedFiles:
    """The files of the user with the number `owner`; other users' files are not used, but remembered.

    `foreign`: by path, the user to whom something belongs that was not used; the first 20.
    """

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.foreign: dict[str, int] = {}

    def is_owned(self, uid: int) -> bool:
        """Whether files of this user count: the owner's and root's do."""
        return uid in {self.owner, 0}

    def pass_over(self, path: str, uid: int) -> None:
        """Remember that this file was not used."""
        if len(self.foreign) < _FOREIGN_AT_MOST:
            self.foreign[path] = uid

    @contextmanager
    def open(self, path: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
        """The descriptor of a regular file of the owner's and its size in bytes.

        Raises:
            OSError: it does not exist, is not the owner's (ForeignError), or may not be read.
        """
        with self._remembering():
            descriptor = open_file(path, owner=self.owner)
        try:
            yield descriptor, os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    @contextmanager
    def scan(self, directory: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        """The entries of a directory, whose `path` is the bare name; of a foreign link none.

        Raises:
            OSError: it does not exist, a foreign link leads to it (ForeignError), or it may not be read.
        """
        with self._remembering():
            descriptor = open_listing(directory, owner=self.owner)
        try:
            with os.scandir(descriptor) as entries:
                yield entries
        finally:
            os.close(descriptor)

    def read_tail(self, path: str | os.PathLike[str], *, limit_bytes: int = 65536) -> bytes | None:
        """The last `limit_bytes` of a file, less if it is shorter; None if it cannot be read.

        If the file is longer than the limit, the first line is incomplete.
        """
        try:
            with self.open(path) as (descriptor, size_bytes):
                return read_at(descriptor, max(size_bytes - limit_bytes, 0), limit_bytes)
        except OSError:
            return None

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except ForeignError as error:
            self.pass_over(error.filename, error.uid)
            raise
