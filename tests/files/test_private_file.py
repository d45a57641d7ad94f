"""Tests temporary files for other programs, in a place where other users cannot replace them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import as_root
from evalmon_agent.files.private import private_file


@pytest.mark.survives("S17")
def test_the_file_lies_where_only_its_owner_can_write_whatever_tmpdir_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with private_file("5f3a", "-odd name", b"#!/bin/sh\n") as path:
        assert path.endswith("/5f3a/-odd name")
        assert (Path(path).read_bytes(), os.listdir(tmp_path)) == (b"#!/bin/sh\n", [])
        place = Path(path).parents[1]
        assert (place.stat().st_mode & 0o777, place.stat().st_uid) == (0o700, os.geteuid())
        above = place.parent.stat()
        assert above.st_uid == 0
        assert above.st_mode & stat.S_ISVTX or not above.st_mode & 0o022
    assert not place.exists()


def test_the_file_is_removed_after_an_error() -> None:
    with pytest.raises(KeyError), private_file("a", "b", b"") as path:
        raise KeyError
    assert not Path(path).parents[1].exists()


SAY_WHERE = """
import os, sys
from evalmon_agent.files import private
private._PLACES = sys.argv[1:]
try:
    with private.private_file("a", "b", b"x") as path:
        print(path.startswith(sys.argv[2]))
except OSError as error:
    print(error)
print(os.listdir(sys.argv[1]))
"""


@as_root.needs_root
def test_the_next_place_is_used_if_one_is_full(tmp_path: Path) -> None:
    prepare = 'mount -t tmpfs -o size=4k,mode=1777 none "$1"; head -c 4096 /dev/zero >"$1"/fill'

    def said(*places: Path) -> list[str]:
        words = [sys.executable, "-c", SAY_WHERE, *map(str, places)]
        argv = as_root.in_namespace(prepare, tmp_path, words=words, environ=dict(os.environ))
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.splitlines()

    assert said(tmp_path, Path("/dev/shm")) == ["True", "['fill']"]
    assert said(tmp_path, tmp_path) == [f"[Errno 28] No space left on device: '{tmp_path}'", "['fill']"]
