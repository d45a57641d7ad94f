"""The end of a file: little is read, nothing waits, whatever lies there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from as_root import not_as_root
from evalmon_agent.files.tail import read_tail


def test_a_short_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    assert read_tail(path) == b"one\ntwo\n"


def test_of_a_long_file_the_end_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 70000 + b"end")
    assert read_tail(path, limit_bytes=5) == b"xxend"
    found = read_tail(path)
    assert found is not None
    assert len(found) == 65536


@pytest.mark.survives("S10")
def test_of_ten_gigabytes_without_a_newline_64_kib_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    found = read_tail(path)
    assert found == b"\0" * 65536


def test_an_empty_file_is_empty_and_a_missing_one_unknown(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert read_tail(tmp_path / "empty") == b""
    assert read_tail(tmp_path / "missing") is None
    assert read_tail(tmp_path / "empty" / "below") is None
    assert read_tail(f"{tmp_path}/\0") is None


@pytest.mark.survives("S1")
def test_links_fifos_devices_and_directories_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "link", tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        assert read_tail(path) is None


@not_as_root
def test_a_file_that_may_not_be_read_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch(mode=0)
    assert read_tail(path) is None
