"""Temporary files that a kill left are removed once they are old; nothing else ever is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import faults
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.files.sweep import sweep

OURS = ".state.json.0123456789abcdef.tmp"
NOT_OURS = [
    "state.json",
    "state.json.corrupt-20260102T030405",
    "0123456789abcdef.tmp",
    ".state.json.0123456789abcde.tmp",
    ".state.json.0123456789ABCDEF.tmp",
    ".state.json.0123456789abcdef.tmp.mine",
    ".tmp",
    "note.0123456789abcdef.tmp",
]


def make_old(path: Path) -> Path:
    os.utime(path, (0, 0), follow_symlinks=False)
    return path


def test_an_old_one_is_removed_a_young_one_stays(tmp_path: Path) -> None:
    (tmp_path / OURS).touch()
    assert sweep(str(tmp_path)) == 0
    make_old(tmp_path / OURS)
    assert sweep(str(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", NOT_OURS)
def test_other_names_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    make_old(tmp_path / name)
    assert sweep(str(tmp_path)) == 0
    assert os.listdir(tmp_path) == [name]


@pytest.mark.survives("S1")
@pytest.mark.parametrize("kind", faults.PLANTS)
def test_whatever_bears_such_a_name_nothing_else_is_touched(tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    faults.plant(kind, tmp_path / OURS, victim)
    make_old(tmp_path / OURS)
    sweep(str(tmp_path))
    assert victim.read_text() == "precious"
    # What somebody put into a directory is theirs.
    assert os.path.lexists(tmp_path / OURS) == (kind == "directory")


def test_a_directory_that_is_not_there_is_no_error(tmp_path: Path) -> None:
    assert sweep(str(tmp_path / "gone")) == 0


@pytest.mark.survives("F1")
@faults.needs_strace
def test_whatever_a_killed_replacement_leaves_is_swept(tmp_path: Path) -> None:
    path = tmp_path / "state.json"

    def work() -> None:
        replace_atomically(str(path), b"new")

    trace = tmp_path / "trace"
    found = faults.points(work, trace)
    trace.unlink()
    assert len(found) > 6
    for point in found:
        path.write_bytes(b"old")
        assert faults.killed_at(work, point)
        assert path.read_bytes() in {b"old", b"new"}
        for left in tmp_path.iterdir():
            make_old(left)
        sweep(str(tmp_path))
        assert os.listdir(tmp_path) == ["state.json"]
