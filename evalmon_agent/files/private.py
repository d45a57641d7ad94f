"""Reads and appends to the experiment's own files, only plain files of its owner; writes private temporary files.

Opening never waits (FIFO, device), follows no symbolic link at the end of the path, and gives no access for writing to
a file that has a second name. A refusal is a UsageError. What is appended is written completely or not at all; call
that under the lock.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from evalmon_agent.errors import UnsafeDirectoryError, UsageError
from evalmon_agent.files.replace import sync_directory
from evalmon_agent.files.trusted import read_at

_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
# A link, a directory, a socket or a device without a driver, as open(2) refuses them.
_NO_FILE = frozenset({errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV})

# Not TMPDIR, which may lie in a project's directory that its group can write.
_PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - each is looked at first

# A file was replaced from another host while it was opened: a later try finds the new one within a second.
_STALE_PAUSES_S = (0.05, 0.1, 0.2, 0.4, 0.8)

_TAIL_BYTES = 64 * 1024
_END_OF_BLOCK = b"\n\n"
_DIGIT = re.compile(rb"[0-9]")
_HEAD = b"[0000-00-00 00:00:00] "


@dataclass(frozen=True, slots=True)
class Tail:
    """The end of a file, and which file that was (device, inode)."""

    data: bytes
    file: tuple[int, int]


@contextmanager
def opened(path: str, *, dir_fd: int | None = None) -> Iterator[tuple[int, os.stat_result]]:
    """A descriptor to read what is at `path`, and its status, from which the caller judges what it is.

    Raises:
        OSError: it cannot be opened; a link never is.
    """
    descriptor = os.open(path, os.O_RDONLY | _FLAGS, dir_fd=dir_fd)
    try:
        yield descriptor, os.fstat(descriptor)
    finally:
        os.close(descriptor)


def read_private(path: str, *, max_bytes: int) -> bytes | None:
    """The content; None if the file is larger than `max_bytes` (and then it is not read). Raises as `read_tail`."""
    tail = read_tail(path, 0, max_bytes=max_bytes)
    return None if tail is None else tail.data


def read_tail(path: str, offset: int, *, max_bytes: int) -> Tail | None:
    """The content from `offset` on; None if the file is larger than `max_bytes` (then it is not read).

    Raises:
        FileNotFoundError: there is no such file.
        UsageError: it is not a plain file of the directory's owner.
        OSError: it cannot be opened or read.
    """
    for pause_s in _STALE_PAUSES_S:
        try:
            return _read(path, offset, max_bytes)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
        time.sleep(pause_s)
    return _read(path, offset, max_bytes)


def _read(path: str, offset: int, max_bytes: int) -> Tail | None:
    descriptor = _open(path, os.O_RDONLY)
    try:
        status = _check(path, descriptor)
        if status.st_size > max_bytes:
            return None
        data = read_at(descriptor, offset, max_bytes + 1)
        return Tail(data, (status.st_dev, status.st_ino)) if len(data) <= max_bytes else None
    finally:
        os.close(descriptor)


@contextmanager
def _opened_to_grow(path: str, *, mode: int) -> Iterator[tuple[int, int]]:
    """A descriptor to read and write the file with, and its size. A missing file is made, with exactly this mode.

    Raises:
        UsageError: it is not a plain file of this user, or has a second name.
        OSError: it cannot be opened or read.
    """
    created = False
    try:
        descriptor = _open(path, os.O_RDWR)
    except FileNotFoundError:
        descriptor = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
        created = True
    try:
        if created:
            os.fchmod(descriptor, mode)
        status = _check(path, descriptor)
        if status.st_nlink > 1:
            raise UsageError(f"{path}: has a second name elsewhere; remove it; evalmon creates its own")
        yield descriptor, status.st_size
        if created:
            sync_directory(os.path.dirname(path))
    finally:
        os.close(descriptor)


def _open(path: str, flags: int, mode: int = 0o600) -> int:
    try:
        return os.open(path, flags | _FLAGS, mode)
    except OSError as error:
        if error.errno in _NO_FILE:
            raise _refusal(path) from None
        raise


def _check(path: str, descriptor: int) -> os.stat_result:
    status = os.fstat(descriptor)
    owner = os.stat(os.path.dirname(path) or ".").st_uid
    if not stat.S_ISREG(status.st_mode) or status.st_uid != owner:
        raise _refusal(path)
    return status


def _refusal(path: str) -> UsageError:
    return UsageError(f"{path}: not a plain file of this experiment's owner; remove it; evalmon creates its own")


def size_of(path: str) -> int:
    """The length in bytes; 0 if there is no such file."""
    try:
        return os.stat(path, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def append_line(path: str, line: bytes, *, mode: int = 0o600) -> None:
    """Append `line` (with its newline) and make it durable; a torn line before it gets its newline first.

    After a return the line is on disk; after an OSError the file has its earlier length; a kill leaves at most a torn
    last line, which readers skip.
    """
    with _opened_to_grow(path, mode=mode) as (fd, end):
        torn = end > 0 and os.pread(fd, 1, end - 1) != b"\n"
        _write_at(fd, end, b"\n" + line if torn else line)


def complete(path: str, offset: int, data: bytes, *, mode: int = 0o600) -> bool:
    """Make the file hold `data` from `offset` on, writing only what is missing; True if anything was.

    A part of `data` that a killed writer left is completed. If the file was cut or replaced since, so that `offset` is
    beyond its end or other text is there, `data` goes to its end. After a return it is on disk; after an OSError the
    file is unchanged.
    """
    with _opened_to_grow(path, mode=mode) as (fd, end):
        written = os.pread(fd, len(data), offset) if offset <= end else None
        if written is not None and data.startswith(written):
            missing, at = data[len(written) :], offset + len(written)
        else:
            missing, at = data, end
        _write_at(fd, at, missing)
    return bool(missing)


def cut_torn(path: str, *, mode: int = 0o600) -> None:
    """Cut what a kill left of a block at the end of the log.

    Only text that begins like a block is cut; other text gets its missing blank line.
    """
    if not os.path.lexists(path):
        return
    with _opened_to_grow(path, mode=mode) as (fd, end):
        start = max(end - _TAIL_BYTES, 0)
        tail = os.pread(fd, end - start, start)
        if not tail or tail.endswith(_END_OF_BLOCK):
            return
        last = tail.rfind(_END_OF_BLOCK)
        torn = tail[last + len(_END_OF_BLOCK) if last >= 0 else 0 :]
        if (last >= 0 or start == 0) and _begins_a_block(torn):
            os.ftruncate(fd, end - len(torn))
        else:
            _write_at(fd, end, b"\n" if tail.endswith(b"\n") else _END_OF_BLOCK)


def _begins_a_block(text: bytes) -> bool:
    """Whether the text is the start, however short, of `[2026-01-02 03:04:05] KIND: ...`."""
    shape = _DIGIT.sub(b"0", text[: len(_HEAD)])
    return bool(shape) and _HEAD.startswith(shape)


def _write_at(fd: int, at: int, data: bytes) -> None:
    """Write all of `data` to disk, or cut the file to its earlier length (a full disk writes only a part)."""
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], at + done)
        os.fsync(fd)
    except OSError:
        if data:
            with suppress(OSError):  # the first error is the one that matters
                os.ftruncate(fd, at)
        raise


@contextmanager
def private_file(directory: str, name: str, content: bytes) -> Iterator[str]:
    """The path of a temporary file with this content, `.../directory/name`, which only this user can read.

    Raises:
        UnsafeDirectoryError: in every place for temporary files, other users can rename this user's files.
        OSError: it cannot be written in any safe place (`filename` is the last of them).
    """
    place = _written(directory, name, content)
    try:
        yield os.path.join(place, directory, name)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _written(directory: str, name: str, content: bytes) -> str:
    """Write it to the first place that is safe and has room, and return the path."""
    full: OSError | None = None
    for place in filter(_is_safe, _PLACES):
        made = ""
        try:
            made = tempfile.mkdtemp(prefix="evalmon.", dir=place)
            os.mkdir(os.path.join(made, directory), 0o700)
            with open(os.path.join(made, directory, name), "xb") as file:
                file.write(content)
        except OSError as error:
            full = OSError(error.errno, error.strerror, place)
            shutil.rmtree(made, ignore_errors=True)
        else:
            return made
    if full is not None:
        raise full
    places = ", ".join(_PLACES)
    raise UnsafeDirectoryError(
        f"{places}: no safe place for a temporary file; ask an administrator to run: chmod 1777 /tmp"
    )


def _is_safe(place: str) -> bool:
    try:
        status = os.stat(place)
    except OSError:
        return False
    is_shared = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) and not status.st_mode & stat.S_ISVTX
    return status.st_uid == 0 and not is_shared and os.access(place, os.W_OK | os.X_OK)
