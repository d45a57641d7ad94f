"""Tests that a replaced file has the old or the new content, and that old temporary files are removed."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import faults
from evalmon_agent.files.replace import replace_atomically, sweep

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")

OLD = b"old" * 1000
NEW = b"new" * 50_000

PROGRAM = """
import sys
from evalmon_agent.files.replace import replace_atomically
try:
    replace_atomically(sys.argv[1], b"new" * 50_000)
except OSError as error:
    print(error.errno)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    path.write_bytes(OLD)
    return path


def save(place: Path, *options: str, expect: int = 0) -> int | None:
    """The errno of a save in another process, under strace; None if it succeeded."""
    argv = ["strace", "-o", "/dev/null", *options, sys.executable, "-c", PROGRAM, str(place)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expect, done.stderr
    return int(done.stdout) if done.stdout else None


def test_the_file_has_the_new_content_and_no_temporary_file_is_left(place: Path) -> None:
    for data in (NEW, b"", b"\0\xff", b"x"):
        replace_atomically(place, data)
        assert place.read_bytes() == data
        assert os.listdir(place.parent) == ["state.json"]


def test_a_missing_file_is_created(tmp_path: Path) -> None:
    replace_atomically(tmp_path / "new", NEW)
    assert (tmp_path / "new").read_bytes() == NEW


def test_a_bare_name_means_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    replace_atomically("new", NEW)
    assert (tmp_path / "new").read_bytes() == NEW


def test_dir_fd_works_after_the_directory_was_moved(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    directory = os.open(before, os.O_RDONLY)
    try:
        before.rename(after)
        replace_atomically("new", NEW, dir_fd=directory)
    finally:
        os.close(directory)
    assert (after / "new").read_bytes() == NEW


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o400])
@pytest.mark.parametrize("umask", [0o077, 0o000, 0o777])
def test_the_mode_is_exactly_the_requested_one(place: Path, mode: int, umask: int) -> None:
    place.chmod(0o666)
    before = os.umask(umask)
    try:
        replace_atomically(place, NEW, mode=mode)
    finally:
        os.umask(before)
    assert place.stat().st_mode & 0o7777 == mode


@pytest.mark.survives("S1")
def test_links_are_replaced_and_their_targets_untouched(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(OLD)
    (tmp_path / "symbolic").symlink_to(victim)
    (tmp_path / "hard").hardlink_to(victim)
    os.mkfifo(tmp_path / "fifo")
    for name in ("symbolic", "hard", "fifo"):
        replace_atomically(tmp_path / name, NEW)
        assert (tmp_path / name).read_bytes() == NEW
        assert not (tmp_path / name).is_symlink()
    assert victim.read_bytes() == OLD


def test_a_directory_at_the_path_is_an_error_and_stays(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(IsADirectoryError):
        replace_atomically(tmp_path / "place", NEW)
    assert os.listdir(tmp_path) == ["place"]


def test_a_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        replace_atomically(tmp_path / "none" / "file", NEW)


def test_an_open_reader_keeps_the_whole_old_content(place: Path) -> None:
    with place.open("rb") as reader:
        start = reader.read(10)
        replace_atomically(place, NEW)
        assert start + reader.read() == OLD


@pytest.mark.survives("F2", "F3")
@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EIO", "ESTALE", "ETIMEDOUT"])
@pytest.mark.parametrize("call", ["fchmod", "fsync", "rename"])
def test_a_failed_save_leaves_the_old_content(place: Path, call: str, error: str) -> None:
    got = save(
        place,
        "-e",
        f"inject={call},{call}at:error={error}:when=1" if call == "rename" else f"inject={call}:error={error}:when=1",
    )
    assert got == getattr(errno, error)
    assert place.read_bytes() == OLD
    assert os.listdir(place.parent) == ["state.json"]


@pytest.mark.survives("F4")
@needs_strace
@pytest.mark.parametrize("error", ["EINVAL", "EOPNOTSUPP", "ENOSYS"])
def test_a_directory_that_cannot_be_synced_is_tolerated(place: Path, error: str) -> None:
    assert save(place, "-e", f"inject=fsync:error={error}:when=2") is None
    assert place.read_bytes() == NEW


@pytest.mark.survives("F4")
@needs_strace
@pytest.mark.parametrize("error", ["EIO", "EDQUOT"])
def test_an_error_on_close_is_a_failed_save(place: Path, error: str) -> None:
    """On NFS, close reports that there was no room for what was written."""
    nth = next(number for name, number in calls_of_a_save(place) if name == "close")
    place.write_bytes(OLD)
    assert save(place, "-e", f"inject=close:error={error}:when={nth}") == getattr(errno, error)
    assert place.read_bytes() == OLD
    assert os.listdir(place.parent) == ["state.json"]


@pytest.mark.survives("F3")
@needs_strace
def test_an_error_while_syncing_the_directory_is_raised(place: Path) -> None:
    assert save(place, "-e", "inject=fsync:error=EIO:when=2") == errno.EIO
    assert place.read_bytes() == NEW


def calls_of_a_save(place: Path) -> list[tuple[str, int]]:
    """Each system call since the temporary file was opened, as a name and its number among calls of that name."""
    log = place.parent.parent / "trace"
    argv = ["strace", "-o", str(log), sys.executable, "-c", PROGRAM, str(place)]
    subprocess.run(argv, check=True, timeout=60)
    lines = [line for line in log.read_text().splitlines() if re.match(r"\w+\(", line)]
    first = next(index for index, line in enumerate(lines) if "O_EXCL" in line and ".tmp" in line)
    seen: dict[str, int] = {}
    calls = []
    for index, line in enumerate(lines):
        name = line.partition("(")[0]
        seen[name] = seen.get(name, 0) + 1
        if index >= first and not name.startswith("exit"):
            calls.append((name, seen[name]))
    return calls[:40]


@needs_strace
@pytest.mark.parametrize("short", [1, 100, 149_999])
def test_a_short_write_is_continued(place: Path, short: int) -> None:
    """strace pretends that this many bytes were written, and writes nothing."""
    nth = dict(reversed(calls_of_a_save(place)))["write"]
    place.write_bytes(OLD)
    save(place, "-e", f"inject=write:retval={short}:when={nth}")
    assert len(place.read_bytes()) == len(NEW) - short


@pytest.mark.survives("F1")
@needs_strace
def test_a_kill_at_any_system_call_leaves_the_old_or_the_new_content(place: Path) -> None:
    calls = calls_of_a_save(place)
    assert {"fchmod", "write", "fsync"} < {name for name, _ in calls}
    found = set()
    for name, nth in calls:
        place.write_bytes(OLD)
        save(place, "-e", f"inject={name}:signal=KILL:when={nth}", expect=-signal.SIGKILL)
        found.add(place.read_bytes())
    assert found == {OLD, NEW}


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


def test_sweep_removes_old_temporary_files_and_keeps_new_ones(tmp_path: Path) -> None:
    (tmp_path / OURS).touch()
    assert sweep(str(tmp_path)) == 0
    make_old(tmp_path / OURS)
    assert sweep(str(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", NOT_OURS)
def test_sweep_keeps_files_with_other_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    make_old(tmp_path / name)
    assert sweep(str(tmp_path)) == 0
    assert os.listdir(tmp_path) == [name]


@pytest.mark.survives("S1")
@pytest.mark.parametrize("kind", faults.PLANTS)
def test_sweep_removes_links_but_not_their_targets_or_directories(tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    faults.plant(kind, tmp_path / OURS, victim)
    make_old(tmp_path / OURS)
    sweep(str(tmp_path))
    assert victim.read_text() == "precious"
    # A directory with such a name is not evalmon's.
    assert os.path.lexists(tmp_path / OURS) == (kind == "directory")


def test_sweeping_a_missing_directory_is_no_error(tmp_path: Path) -> None:
    assert sweep(str(tmp_path / "gone")) == 0


@pytest.mark.survives("F1")
@faults.needs_strace
def test_sweep_removes_what_a_killed_replacement_left(tmp_path: Path) -> None:
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
