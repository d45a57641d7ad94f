"""May a file decide what we do: is it ours or root's, and can nobody else write it?"""

from __future__ import annotations

import grp
import os
import pwd
import shlex
import stat


def is_trusted(uid: int) -> bool:
    """Whether what this user writes may decide what we do: ourselves, and root."""
    return uid in {os.geteuid(), 0}


def writers(path: str, status: os.stat_result) -> str | None:
    """Who else can write the file, and the chmod to run; None if nobody can.

    A group of one's own (Debian, Fedora: every user has one, and files are made writable for it) is nobody else.
    """
    if status.st_mode & stat.S_IWOTH:
        return f"anybody can write it; run: chmod o-w {shlex.quote(path)}"
    if status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_gid, status.st_uid):
        return f"its group can write it; run: chmod g-w {shlex.quote(path)}"
    return None


def user_name(uid: int) -> str:
    """The user's name, or number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_own_group(gid: int, uid: int) -> bool:
    try:
        group, name = grp.getgrgid(gid), pwd.getpwuid(uid).pw_name
    except KeyError:
        return False
    return group.gr_name == name and set(group.gr_mem) <= {name}
