"""Whether a file could be written at a path, told without trying."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evalmon_agent.files.permissions import why_not_writable

NOT_THERE, DENIED, NO_DIRECTORY = "No such file or directory", "Permission denied", "Not a directory"


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A directory that we may not write to."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    path = tmp_path / "closed"
    path.mkdir(mode=0o555)
    return path


@pytest.mark.parametrize("makes_directories", [True, False])
def test_a_device_a_file_that_is_there_and_a_new_one_can_be_written(tmp_path: Path, makes_directories: bool) -> None:
    (tmp_path / "old").touch()
    for path in ("/dev/null", tmp_path / "old", tmp_path / "new"):
        assert why_not_writable(str(path), makes_directories=makes_directories) is None


def test_where_the_directory_is_missing_it_depends_on_who_writes(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b" / "file")
    assert why_not_writable(path) == NOT_THERE
    assert why_not_writable(path, makes_directories=True) is None


@pytest.mark.parametrize("makes_directories", [True, False])
def test_below_a_file_nothing_can_be_written(tmp_path: Path, makes_directories: bool) -> None:
    (tmp_path / "file").touch()
    assert why_not_writable(str(tmp_path / "file" / "x"), makes_directories=makes_directories) == NO_DIRECTORY


@pytest.mark.parametrize("makes_directories", [True, False])
def test_what_may_not_be_written_is_told(closed: Path, makes_directories: bool) -> None:
    assert why_not_writable(str(closed / "x"), makes_directories=makes_directories) == DENIED
    assert why_not_writable(str(closed / "a" / "x"), makes_directories=True) == DENIED
    file = closed.parent / "old"
    file.touch(mode=0o444)
    assert why_not_writable(str(file), makes_directories=makes_directories) == DENIED
