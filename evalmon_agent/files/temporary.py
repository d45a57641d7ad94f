"""Writes a file for another program to read by its path, where nobody else can put another one in its place."""

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
    """The path of a file with this content, `.../directory/name`, which only we can read; gone afterwards.

    Raises:
        UnsafeDirectoryError: in every place for temporary files others can rename what is ours.
        OSError: it cannot be written.
    """
    place = tempfile.mkdtemp(prefix="evalmon.", dir=_safe_place())
    try:
        os.mkdir(os.path.join(place, directory), 0o700)
        path = os.path.join(place, directory, name)
        with open(path, "xb") as file:
            file.write(content)
        yield path
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _safe_place() -> str:
    for place in _PLACES:
        try:
            status = os.stat(place)
        except OSError:
            continue
        is_shared = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) and not status.st_mode & stat.S_ISVTX
        if status.st_uid == 0 and not is_shared and os.access(place, os.W_OK | os.X_OK):
            return place
    places = ", ".join(_PLACES)
    raise UnsafeDirectoryError(f"{places}: no safe place for a file; ask an administrator for: chmod 1777 /tmp")
