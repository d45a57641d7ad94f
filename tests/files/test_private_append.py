"""Tests that text is appended completely or not at all, and that a kill's rest is completed or cut, never doubled."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

import faults
from as_root import needs_root
from evalmon_agent.errors import UsageError
from evalmon_agent.files.private import append_line, complete, cut_torn, size_of

BLOCK = b"[2026-01-02 03:04:05] STATE_CHANGE: r/t/epoch1\nPrevious: PENDING\nCurrent: RUNNING\n\n"
OTHER = b"[2026-01-02 03:04:05] STATUS_CHECK: Polling SLURM\nResult: 1 jobs found\n\n"
ERRORS = ["ENOSPC", "EDQUOT", "EIO", "ESTALE", "ETIMEDOUT"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_size_of_returns_zero_for_a_missing_file(log: Path) -> None:
    assert size_of(str(log)) == 0
    log.write_bytes(b"abc")
    assert size_of(str(log)) == 3


def test_append_line_adds_a_line(log: Path) -> None:
    append_line(str(log), b"one\n")
    append_line(str(log), b"two\n")
    assert log.read_bytes() == b"one\ntwo\n"


def test_a_new_file_gets_exactly_the_requested_mode(log: Path) -> None:
    before = os.umask(0o077)
    try:
        complete(str(log), 0, BLOCK, mode=0o640)
        append_line(str(log) + "2", b"x\n", mode=0o640)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(Path(str(log) + end).stat().st_mode) for end in ("", "2")] == [0o640, 0o640]


@pytest.mark.survives("F12")
def test_a_line_after_a_torn_line_starts_on_a_new_line(log: Path) -> None:
    log.write_bytes(b"one\ntw")
    append_line(str(log), b"three\n")
    assert log.read_bytes() == b"one\ntw\nthree\n"


@pytest.mark.survives("F12")
@pytest.mark.parametrize("cut", range(len(BLOCK) + 1))
def test_a_block_torn_at_any_byte_is_completed(log: Path, cut: int) -> None:
    log.write_bytes(OTHER + BLOCK[:cut])
    assert complete(str(log), len(OTHER), BLOCK) == (cut < len(BLOCK))
    assert log.read_bytes() == OTHER + BLOCK
    assert not complete(str(log), len(OTHER), BLOCK)


def test_complete_leaves_text_after_a_whole_block_alone(log: Path) -> None:
    log.write_bytes(OTHER + BLOCK + OTHER)
    assert not complete(str(log), len(OTHER), BLOCK)
    assert log.read_bytes() == OTHER + BLOCK + OTHER


@pytest.mark.parametrize("there", [b"", OTHER[:10], OTHER + b"a note of the user's\n"])
def test_complete_appends_the_block_if_the_log_was_cut_or_changed(log: Path, there: bytes) -> None:
    log.write_bytes(there)
    assert complete(str(log), len(OTHER), BLOCK)
    assert log.read_bytes() == there + BLOCK


@pytest.mark.survives("F12")
@pytest.mark.parametrize("cut", range(1, len(BLOCK)))
def test_cut_torn_removes_a_torn_block(log: Path, cut: int) -> None:
    log.write_bytes(OTHER + BLOCK[:cut])
    cut_torn(str(log))
    assert log.read_bytes() == OTHER
    log.write_bytes(BLOCK[:cut])
    cut_torn(str(log))
    assert log.read_bytes() == b""


@pytest.mark.parametrize(
    ("there", "then"),
    [
        (b"", b""),
        (BLOCK, BLOCK),
        (OTHER + b"a note\n", OTHER + b"a note\n\n"),
        (OTHER + b"a note", OTHER + b"a note\n\n"),
        (OTHER + b"[x] mine", OTHER + b"[x] mine\n\n"),
        (OTHER + b"[2026-01-02] mine\n", OTHER + b"[2026-01-02] mine\n\n"),
        (b"x" * 100_000 + b"[", b"x" * 100_000 + b"[\n\n"),
    ],
)
def test_cut_torn_keeps_text_that_is_not_a_block(log: Path, there: bytes, then: bytes) -> None:
    log.write_bytes(there)
    cut_torn(str(log))
    assert log.read_bytes() == then


def test_cut_torn_creates_no_file(log: Path) -> None:
    cut_torn(str(log))
    assert not log.exists()


@pytest.mark.survives("F2", "F3")
@faults.needs_strace
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("call", ["pwrite64", "fsync"])
@pytest.mark.parametrize("write", ["append_line", "complete"])
def test_after_an_error_the_file_is_unchanged(log: Path, write: str, call: str, error: str) -> None:
    log.write_bytes(OTHER)
    works: dict[str, Callable[[], object]] = {
        "append_line": lambda: append_line(str(log), b"line\n"),
        "complete": lambda: complete(str(log), len(OTHER), BLOCK),
    }
    assert faults.refused_at(works[write], (call, 1), error) == 1
    assert log.read_bytes() == OTHER


@pytest.mark.survives("F2")
@needs_root
def test_a_disk_that_fills_up_during_a_write_leaves_the_file_unchanged(tmp_path: Path) -> None:
    with faults.small_disk(tmp_path / "disk", kib=64) as disk:
        log = disk / "log"
        log.write_bytes(OTHER)
        (disk / "ballast").write_bytes(b"x" * 40_000)
        with pytest.raises(OSError, match="No space left"):
            complete(str(log), len(OTHER), b"y" * 100_000)
        assert log.read_bytes() == OTHER
        (disk / "ballast").unlink()
        assert complete(str(log), len(OTHER), BLOCK)
        assert log.read_bytes() == OTHER + BLOCK


@pytest.mark.survives("S1")
@pytest.mark.parametrize("plant", ["symlink", "dangling", "fifo", "hard link", "directory"])
def test_a_planted_link_or_device_is_refused_and_untouched(log: Path, plant: str) -> None:
    victim = log.parent / "victim"
    victim.write_bytes(b"precious")
    faults.plant(plant, log, victim)
    for write in (
        lambda: append_line(str(log), b"x\n"),
        lambda: complete(str(log), 8, BLOCK),
        lambda: cut_torn(str(log)),
    ):
        with pytest.raises(UsageError, match="evalmon creates its own"):
            write()
    assert victim.read_bytes() == b"precious"
