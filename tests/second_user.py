"""Runs commands as another ordinary user of the same group."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

import pytest

import as_root

_NAMES = ("evalmon-other", "nobody")
_GROUPS = ("evalmon-lab", "nogroup", "nobody")


def name() -> str:
    """The user's name. The test is skipped if there is no such user, or no file can be given to them."""
    known = {user.pw_name for user in pwd.getpwall()}
    names = [one for one in _NAMES if one in known]
    if not names or not as_root.has_root:
        pytest.skip("needs a second user, and root or sudo without a password")
    return names[0]


def uid() -> int:
    """The user's number."""
    return pwd.getpwnam(name()).pw_uid


def give(path: Path) -> None:
    """Give a file, a directory, or a symbolic link itself to that user."""
    as_root.give(path, user=uid(), group=-1)


def argv(*words: str | Path) -> list[str]:
    """The command as that user."""
    return as_root.argv("runuser", "-u", name(), "--", *words)


def run(*words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as that user."""
    return subprocess.run(argv(*words), check=True, capture_output=True, text=True, **options)


def share(path: Path, mode: int) -> str:
    """Give a directory to the group that both users are in, with this mode; returns the group's name."""
    groups = {group.gr_name: group.gr_gid for group in grp.getgrall()}
    shared = next(
        (one for one in _GROUPS if one in groups and (as_root.is_root or groups[one] in os.getgroups())), None
    )
    if shared is None:
        pytest.skip(f"needs a group that both are in: {_GROUPS[0]}")
    os.chown(path, -1, groups[shared])
    os.chmod(path, mode)
    return shared
