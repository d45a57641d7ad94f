"""Tells whether a file could be written at a path, without trying."""

from __future__ import annotations

import errno
import os
import stat


def why_not_writable(path: str, *, makes_directories: bool = False) -> str | None:
    """What keeps us from writing a file there, in the system's words; None if nothing does, seen from here.

    `makes_directories`: whoever writes it makes the directories that are missing.
    """
    if os.access(path, os.W_OK):
        return None  # a device, or a file that is to be replaced
    if os.path.exists(path):
        return os.strerror(errno.EACCES)
    directory = os.path.dirname(path)
    try:
        is_directory = stat.S_ISDIR(os.stat(directory).st_mode)
    except OSError as error:
        if error.errno == errno.ENOENT and makes_directories and directory != path:
            return why_not_writable(directory, makes_directories=True)
        return error.strerror
    if not is_directory:
        return os.strerror(errno.ENOTDIR)
    return None if os.access(directory, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
