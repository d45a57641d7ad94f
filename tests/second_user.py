"""Another ordinary user: what the tests need that are about files of somebody else."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import tempfile
from pathlib import Path

import pytest

_NAMES = ("evalmon-other", "nobody")
_GROUPS = ("evalmon-lab", "nogroup", "nobody")


def name() -> str:
    """The user's name. The test is skipped where there is no such user, or nothing can be made theirs."""
    known = {user.pw_name for user in pwd.getpwall()}
    found = next((one for one in _NAMES if one in known), None)
    if found is None:
        pytest.skip("needs a second user: evalmon-other or nobody")
    if os.geteuid() != 0 and subprocess.run(_as(found, "true"), capture_output=True, check=False).returncode:
        pytest.skip(f"needs root, or sudo -n -u {found}")
    return found


def uid() -> int:
    """The user's number."""
    return pwd.getpwnam(name()).pw_uid


def give(path: Path) -> None:
    """Make a file, a symbolic link or an empty directory of ours theirs, as it is and where it is."""
    user = name()
    if os.geteuid() == 0:
        os.chown(path, uid(), -1, follow_symlinks=False)
        return
    # They make the same where both of us may write, and we move it: that takes no right to the thing itself.
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)
        made = os.path.join(place, "made")
        if path.is_symlink():
            subprocess.run(_as(user, "ln", "-s", os.readlink(path), made), check=True)
        elif path.is_dir():
            subprocess.run(_as(user, "mkdir", "-m", "777", made), check=True)
            path.rmdir()
        else:
            write = _as(
                user, "sh", "-c", 'cat >"$1" && chmod "$2" "$1"', "sh", made, f"{path.stat().st_mode & 0o777:o}"
            )
            subprocess.run(write, input=path.read_bytes(), check=True)
        os.rename(made, path)


def _as(user: str, *argv: str) -> list[str]:
    return ["sudo", "-n", "-u", user, "--", *argv]


def share(path: Path, mode: int) -> str:
    """Give a directory to the group that both of us are in, with this mode; the group's name."""
    names = {group.gr_name: group.gr_gid for group in grp.getgrall()}
    found = next((one for one in _GROUPS if one in names), None)
    if found is None or not (os.geteuid() == 0 or names[found] in os.getgroups()):
        pytest.skip(f"needs a group that both are in: {_GROUPS[0]}")
    os.chown(path, -1, names[found])
    os.chmod(path, mode)
    return found
