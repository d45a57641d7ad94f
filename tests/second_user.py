"""Another ordinary user: what the tests need that are about files of somebody else."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest

import as_root

_NAMES = ("evalmon-other", "nobody")
_GROUPS = ("evalmon-lab", "nogroup", "nobody")


def name() -> str:
    """The user's name. The test is skipped where there is no such user, or nothing can be made theirs."""
    if not as_root.has_root:
        pytest.skip("needs root, or sudo without a password")
    known = {user.pw_name for user in pwd.getpwall()}
    found = next((one for one in _NAMES if one in known), None)
    if found is None:
        pytest.skip("needs a second user: evalmon-other or nobody")
    return found


def uid() -> int:
    """The user's number."""
    return pwd.getpwnam(name()).pw_uid


def give(path: Path) -> None:
    """Make a file, a directory, or a symbolic link itself, theirs."""
    as_root.give(path, user=uid(), group=os.getegid())


def share(path: Path, mode: int) -> str:
    """Give a directory to a group that both of us are in, with this mode; the group's name."""
    names = {group.gr_name: group.gr_gid for group in grp.getgrall()}
    found = next((one for one in _GROUPS if one in names), None)
    if found is None or not (as_root.is_root or names[found] in os.getgroups()):
        pytest.skip(f"needs a group that both are in: {_GROUPS[0]}")
    os.chown(path, -1, names[found])
    os.chmod(path, mode)
    return found
