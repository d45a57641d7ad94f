"""The files of one user: little is read, nothing waits, and what belongs to others is remembered and not used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import second_user
from evalmon_agent.files.owned import OwnedFiles
from evalmon_agent.files.trusted import ForeignError

FILES = OwnedFiles(os.geteuid())


def test_a_short_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    assert FILES.read_tail(path) == b"one\ntwo\n"


def test_of_a_long_file_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 70000 + b"end")
    assert FILES.read_tail(path, limit_bytes=5) == b"xxend"
    found = FILES.read_tail(path)
    assert found is not None
    assert len(found) == 65536


@pytest.mark.survives("S10")
def test_of_ten_gigabytes_without_a_newline_64_kib_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    found = FILES.read_tail(path)
    assert found == b"\0" * 65536


def test_an_empty_file_is_empty_and_a_missing_one_unknown(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert FILES.read_tail(tmp_path / "empty") == b""
    assert FILES.read_tail(tmp_path / "missing") is None
    assert FILES.read_tail(tmp_path / "empty" / "below") is None
    assert FILES.read_tail(f"{tmp_path}/\0") is None


@pytest.mark.survives("S1")
def test_fifos_devices_and_directories_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        assert FILES.read_tail(path) is None


def test_what_belongs_to_somebody_else_is_remembered_up_to_a_bound(tmp_path: Path) -> None:
    files = OwnedFiles(os.geteuid())
    for number in range(25):
        path = tmp_path / f"{number:02}"
        path.touch()
        second_user.give(path)
        assert files.read_tail(path) is None
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    second_user.give(link)
    files.foreign.popitem()
    with pytest.raises(ForeignError), files.scan(str(link)):
        pass
    expected = {str(tmp_path / f"{number:02}"): second_user.uid() for number in range(19)}
    assert files.foreign == {**expected, str(link): second_user.uid()}


def test_a_file_that_may_not_be_read_is_unknown(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    path = tmp_path / "log"
    path.touch(mode=0)
    assert FILES.read_tail(path) is None
