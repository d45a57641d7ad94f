"""Writes a file for another program to read by its path, in a place where nobody else can replace it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from evalmon_agent.errors import UnsafeDirectoryError

# Not TMPDIR, which may lie in a project's directory that its group can write.
_PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - each is looked at first


@contextmanager
def private_file(directory: str, name: str, content: bytes) -> Iterator[str]:
    """The path of a temporary file with this content, `.../directory/name`, which only this user can read.

    Raises:
        UnsafeDirectoryError: in every place for temporary files others can rename this user's files.
        OSError: it cannot be written in any of the others (`filename` is the last of them).
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
