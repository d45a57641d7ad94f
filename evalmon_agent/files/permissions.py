"""Finds out who can write to a file or a directory: other users, or this user."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import shlex
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath


def is_trusted(uid: int) -> bool:
    """Whether this user's files may decide what evalmon does: only the caller's own and root's may."""
    return uid in {os.geteuid(), 0}


def writers(path: str, status: os.stat_result) -> str | None:
    """Who else can write the file, and the chmod to run; None if no other user can.

    A group whose only member is the file's owner (as every user has on Debian and Fedora) does not count.
    """
    if status.st_mode & stat.S_IWOTH:
        return f"anybody can write it; run: chmod o-w {shlex.quote(path)}"
    if status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid, status.st_uid):
        return f"its group can write it; run: chmod g-w {shlex.quote(path)}"
    return None


@dataclass(frozen=True, slots=True)
class Exposed:
    """A directory in which another user can rename and replace this user's files.

    `whom`: those users, in words; `advice`: what prevents it.
    """

    path: str
    whom: str
    advice: str
    by_anybody: bool = False


def exposed(directory: str) -> Iterator[Exposed]:
    """Yields the directory and its parents, nearest first, in which others can rename and replace files.

    One that others can write is safe with the sticky bit, if it belongs to this user or root. `directory`: absolute,
    without links.
    """
    for path in (directory, *map(str, PurePath(directory).parents)):
        try:
            found = _exposed(path, os.stat(path))
        except OSError:
            continue
        if found is not None:
            yield found


def _exposed(path: str, status: os.stat_result) -> Exposed | None:
    ask = "run" if status.st_uid == os.geteuid() else f"ask {user_name(status.st_uid)} to run"
    sticky = f"{ask}: chmod +t {shlex.quote(path)}"
    has_sticky_bit = bool(status.st_mode & stat.S_ISVTX)
    if status.st_mode & stat.S_IWOTH and not has_sticky_bit:
        return Exposed(path, "anybody", sticky, by_anybody=True)
    if status.st_mode & stat.S_IWGRP and not has_sticky_bit and not _is_own_group(status.st_gid, status.st_uid):
        return Exposed(path, f"the group {_group_name(status.st_gid)}", sticky)
    if not is_trusted(status.st_uid):
        return Exposed(path, f"its owner {user_name(status.st_uid)}", "use a directory of your own")
    return None


def exposure(directory: str) -> tuple[str, str] | None:
    """What others can do to an experiment there, and what prevents it; None if they can do nothing."""
    places = list(exposed(directory))
    if not places:
        return None
    nearest = places[0]
    line = (
        f"{nearest.path}: {nearest.whom} can rename and replace what lies there; nothing of theirs is run or believed, "
        "but they can end the monitoring"
    )
    others = ", ".join(place.path for place in places[1:])
    return line, f"to prevent that, {nearest.advice}" + (f" (the same holds for {others})" if others else "")


def user_name(uid: int) -> str:
    """The user's name, or the number if it has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _is_own_group(gid: int, uid: int) -> bool:
    try:
        group, name = grp.getgrgid(gid), pwd.getpwuid(uid).pw_name
    except KeyError:
        return False
    return group.gr_name == name and set(group.gr_mem) <= {name}


def why_not_writable(path: str, *, makes_directories: bool = False) -> str | None:
    """Why a file cannot be written there, in the system's words; None if it can, seen from here.

    `makes_directories`: the program that writes it creates missing directories.
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
