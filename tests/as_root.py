"""Runs commands that need root or another user, by `sudo -n`; tests that need it are skipped without sudo."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

OTHER = 65534
"""A user, called nobody, to whom files are given and who has no group of ours."""

is_root = os.geteuid() == 0
_SUDO = shutil.which("sudo") or "sudo"


def argv(*words: str | Path) -> list[str]:
    """The command, as root."""
    return [*([] if is_root else [_SUDO, "-n", "--"]), *map(str, words)]


def run(*words: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as root; sudo gives it its own environment."""
    return subprocess.run(argv(*words), check=check, capture_output=True, text=True, **options)


def other_argv(*words: str | Path, environ: Mapping[str, str], groups: Sequence[int] = ()) -> list[str]:
    """The command as the user OTHER, in these groups and with this environment."""
    return argv(*_switched(OTHER, OTHER, groups), *_with(environ), *words)


def in_namespace(
    prepare: str,
    *arguments: str | Path,
    words: Sequence[str],
    environ: Mapping[str, str],
    unshare: Sequence[str] = ("--mount",),
) -> list[str]:
    """The command in its own namespace, which root prepares by a shell script.

    `arguments` are the script's $1, $2..., and $ME is this user for chown. The command runs as this user, with this
    environment.
    """
    script = f'set -e; ME={os.geteuid()}:{os.getegid()}; {prepare}\nshift {len(arguments)}; exec "$@"'
    us = _switched(os.geteuid(), os.getegid(), os.getgroups())
    return argv("unshare", *unshare, "sh", "-c", script, "sh", *arguments, *us, *_with(environ), *words)


def give(path: str | Path, *, user: int = OTHER, group: int = OTHER) -> None:
    """Give a file, or a symbolic link itself, to another user and group (-1: keep)."""
    run("chown", "-h", f"{'' if user < 0 else user}{'' if group < 0 else f':{group}'}", path)


@contextmanager
def given(path: Path) -> Iterator[None]:
    """Give a directory to another user for a while, and back, since pytest must be able to remove its content."""
    before = path.stat()
    give(path)
    try:
        yield
    finally:
        give(path, user=before.st_uid, group=before.st_gid)


@contextmanager
def mounted(where: Path, *words: str | Path) -> Iterator[Path]:
    """`mount WORDS WHERE` for a while, its root directory owned by this user; `where` is created."""
    where.mkdir()
    run("mount", *words, where)
    try:
        give(where, user=os.geteuid(), group=os.getegid())
        yield where
    finally:
        run("umount", "-l", where)


def _switched(user: int, group: int, groups: Sequence[int]) -> list[str]:
    others = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return ["setpriv", f"--reuid={user}", f"--regid={group}", others, "--"]


def _with(environ: Mapping[str, str]) -> list[str]:
    return ["env", "-i", *(f"{name}={value}" for name, value in environ.items())]


def _runs(words: Sequence[str]) -> bool:
    done = subprocess.run(words, check=False, capture_output=True, stdin=subprocess.DEVNULL, cwd="/")
    return done.returncode == 0


has_root = is_root or (os.path.isabs(_SUDO) and _runs(argv("true")))
"""Whether we are root, or may become it without a password."""

needs_root = pytest.mark.skipif(not has_root, reason="needs root, or sudo without a password")
not_as_root = pytest.mark.skipif(is_root, reason="root may read and see everything")
needs_other = pytest.mark.skipif(
    not (has_root and _runs(other_argv(sys.executable, "-c", "import evalmon_agent", environ={}))),
    reason="needs root, and a checkout and interpreter that another user can read",
)
