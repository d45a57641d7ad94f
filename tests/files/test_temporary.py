"""A file for another program, in a place where nobody can swap it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from evalmon_agent.files.temporary import private_file


@pytest.mark.survives("S17")
def test_it_lies_where_only_we_can_write_whatever_tmpdir_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_it_is_gone_after_an_error_too() -> None:
    with pytest.raises(KeyError), private_file("a", "b", b"") as path:
        raise KeyError
    assert not Path(path).parents[1].exists()
