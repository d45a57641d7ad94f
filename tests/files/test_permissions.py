"""Tests the check whether a file could be written at a path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evalmon_agent.files.permissions import why_not_writable

NOT_THERE, DENIED, NO_DIRECTORY = "No such file or directory", "Permission denied", "Not a directory"


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """A directory that this user may not write to."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    path = tmp_path / "closed"
    path.mkdir(mode=0o555)
    return path


@pytest.mark.parametrize("makes_directories", [True, False])
def test_a_device_an_existing_file_and_a_new_file_are_writable(tmp_path: Path, makes_directories: bool) -> None:
    (tmp_path / "old").touch()
    for path in ("/dev/null", tmp_path / "old", tmp_path / "new"):
        assert why_not_writable(str(path), makes_directories=makes_directories) is None


def test_a_missing_directory_is_a_problem_unless_the_program_creates_it(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b" / "file")
    assert why_not_writable(path) == NOT_THERE
    assert why_not_writable(path, makes_directories=True) is None


@pytest.mark.parametrize("makes_directories", [True, False])
def test_a_path_below_a_file_is_not_writable(tmp_path: Path, makes_directories: bool) -> None:
    (tmp_path / "file").touch()
    assert why_not_writable(str(tmp_path / "file" / "x"), makes_directories=makes_directories) == NO_DIRECTORY


@pytest.mark.parametrize("makes_directories", [True, False])
def test_missing_permission_is_reported(closed: Path, makes_directories: bool) -> None:
    assert why_not_writable(str(closed / "x"), makes_directories=makes_directories) == DENIED
    assert why_not_writable(str(closed / "a" / "x"), makes_directories=True) == DENIED
    file = closed.parent / "old"
    file.touch(mode=0o444)
    assert why_not_writable(str(file), makes_directories=makes_directories) == DENIED
