"""Tests that the CSV grows by whole ticks, has one header, is a regular file, and harms no one else's file."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from in_a_job import environ, needs_strace

import as_root
import second_user
from as_root import needs_root
from evalmon_agent.agent.sampling import csv_file
from evalmon_agent.agent.sampling.csv_file import CsvFile
from faults import wait_until

HEADER = b"timestamp, a, b\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out" / "gpu_metrics.csv"


def leave(path: Path, content: bytes) -> None:
    """A file that an earlier job left."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (0, 0))


def test_the_directory_is_created_and_the_header_is_written_once(path: Path) -> None:
    for row in (b"1, 2, 3\n", b"4, 5, 6\n"):
        file = CsvFile(str(path), HEADER)
        assert file.append(row)
        file.close()
    assert path.read_bytes() == HEADER + b"1, 2, 3\n4, 5, 6\n"


@pytest.mark.parametrize(("umask", "mode"), [(0, 0o644), (0o007, 0o640), (0o077, 0o600)])
def test_no_other_user_can_write_a_table_whatever_the_umask(path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        assert CsvFile(str(path), HEADER).append(b"1, 2, 3\n")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode


def test_nothing_is_created_before_the_first_row(path: Path) -> None:
    CsvFile(str(path), HEADER).close()
    assert not path.parent.exists()


@pytest.mark.parametrize("there", [HEADER + b"1, 2, 3\n4, 5", HEADER + b"1, 2, 3\n4, 5, 6"])
@pytest.mark.survives("F12")
def test_a_torn_last_line_gets_its_newline_first(path: Path, there: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(there)
    CsvFile(str(path), HEADER).append(b"7, 8, 9\n")
    assert path.read_bytes() == there + b"\n7, 8, 9\n"


@pytest.mark.parametrize("cut", range(len(HEADER)))
@pytest.mark.survives("F12")
def test_a_file_with_a_torn_header_is_moved_aside(path: Path, cut: int) -> None:
    leave(path, HEADER[:cut])
    CsvFile(str(path), HEADER).append(b"7, 8, 9\n")
    assert path.read_bytes() == HEADER + b"7, 8, 9\n"
    assert os.listdir(path.parent) == [path.name] if cut == 0 else Path(f"{path}.1").read_bytes() == HEADER[:cut]


def test_a_file_with_another_header_is_moved_aside_and_kept(path: Path) -> None:
    olds = [b"timestamp, a\n1, 2\n", b"timestamp, c\n1, 2\n", b"no header at all"]
    for old in olds:
        leave(path, old)
        file = CsvFile(str(path), HEADER)
        assert file.append(b"7, 8, 9\n")
        file.close()
        assert path.read_bytes() == HEADER + b"7, 8, 9\n"
    assert [Path(f"{path}.{number}").read_bytes() for number in (1, 2, 3)] == olds


@pytest.mark.survives("S1")
@pytest.mark.parametrize("kind", ["symlink", "dangling", "hardlink", "fifo", "directory", "device"])
@pytest.mark.survives("S1")
def test_anything_but_a_regular_file_of_the_user_is_refused_at_once_and_untouched(path: Path, kind: str) -> None:
    path.parent.mkdir()
    victim = path.parent / "victim"
    victim.write_bytes(b"untouched")
    if kind == "symlink":
        path.symlink_to(victim)
    elif kind == "dangling":
        path.symlink_to(path.parent / "not there")
    elif kind == "hardlink":
        path.hardlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif as_root.has_root:
        as_root.run("mknod", "-m", "666", path, "c", "1", "3")
    else:
        pytest.skip("needs root (mknod)")
    file = CsvFile(str(path), HEADER)
    before = time.monotonic()
    assert not file.append(b"7, 8, 9\n")
    assert time.monotonic() - before < 1
    assert file.is_turn
    assert "plain file" in file.trouble or "second name" in file.trouble
    assert victim.read_bytes() == b"untouched"
    assert sorted(os.listdir(path.parent)) == ["gpu_metrics.csv", "victim"]


@pytest.mark.survives("S1")
@pytest.mark.parametrize("where", ["above", "the directory", "dangling"])
def test_another_users_link_to_the_directory_is_not_followed(tmp_path: Path, where: str) -> None:
    precious = tmp_path / "precious"
    (precious / "out").mkdir(parents=True)
    link = tmp_path / "study"
    link.symlink_to(tmp_path / "gone" if where == "dangling" else precious)
    second_user.give(link)
    directory = link if where == "the directory" else link / "out"
    file = CsvFile(str(directory / "gpu_metrics.csv"), HEADER)
    assert not file.append(b"7, 8, 9\n")
    assert file.trouble == f"gpu_metrics.csv: {link} is a link of user {second_user.uid()}: not followed"
    assert (sorted(os.listdir(tmp_path)), os.listdir(precious)) == (["precious", "study"], ["out"])
    assert os.listdir(precious / "out") == []


@pytest.mark.survives("S1")
def test_another_users_file_is_not_written_even_if_they_allow_it(path: Path) -> None:
    leave(path, HEADER)
    path.chmod(0o666)
    second_user.give(path)
    file = CsvFile(str(path), HEADER)
    assert not file.append(b"7, 8, 9\n")
    assert file.trouble == f"gpu_metrics.csv: belongs to user {second_user.uid()}"
    assert (path.read_bytes(), os.listdir(path.parent)) == (HEADER, ["gpu_metrics.csv"])


def test_the_users_own_link_to_the_directory_is_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    path.parent.symlink_to(tmp_path / "scratch")
    leave(tmp_path / "scratch" / path.name, b"another header\n")
    assert CsvFile(str(path), HEADER).append(b"7, 8, 9\n")
    assert sorted(os.listdir(tmp_path / "scratch")) == ["gpu_metrics.csv", "gpu_metrics.csv.1"]


def test_a_directory_that_was_replaced_by_a_link_is_not_written_to(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_file, "_REOPEN_AFTER_S", 0.0)
    file = CsvFile(str(path), HEADER)
    assert file.append(b"1, 1, 1\n")
    path.parent.rename(tmp_path / "moved")
    (tmp_path / "precious").mkdir()
    path.parent.symlink_to(tmp_path / "precious")
    second_user.give(path.parent)
    # While it is open, it is the same file.
    assert file.append(b"2, 2, 2\n")
    file.close()
    assert not file.append(b"3, 3, 3\n")
    assert os.listdir(tmp_path / "precious") == []


def test_a_second_writer_waits_until_the_first_is_done(path: Path) -> None:
    first, second = CsvFile(str(path), HEADER), CsvFile(str(path), HEADER)
    assert first.append(b"1, 1, 1\n")
    assert not second.append(b"2, 2, 2\n")
    assert (second.is_turn, second.trouble) == (False, "")
    first.close()
    assert second.append(b"3, 3, 3\n")
    assert second.is_turn
    assert path.read_bytes() == HEADER + b"1, 1, 1\n3, 3, 3\n"


def test_a_file_that_another_program_begins_to_write_is_left_to_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "_REOPEN_AFTER_S", 0.0)
    file = CsvFile(str(path), HEADER)
    assert file.append(b"1, 1, 1\n")
    theirs = "timestamp, utilization.gpu [%]\n"
    with path.open("w") as nvidia_smi:
        nvidia_smi.write(theirs)
        nvidia_smi.flush()
        for _ in range(3):
            assert not file.append(b"2, 2, 2\n")
        nvidia_smi.write("theirs\n")
    assert path.read_text() == theirs + "theirs\n"
    assert file.trouble == "gpu_metrics.csv: is written by somebody else: it is theirs now"
    assert os.listdir(path.parent) == ["gpu_metrics.csv"]


@pytest.mark.parametrize("theirs", [b"", b"timestamp, ", b"timestamp, a\n", b"1, 2\n"])
def test_a_file_that_another_program_began_to_write_in_this_job_is_left_to_it(path: Path, theirs: bytes) -> None:
    path.parent.mkdir()
    file = CsvFile(str(path), HEADER)
    path.write_bytes(theirs)
    assert not file.append(b"2, 2, 2\n")
    assert path.read_bytes() == theirs
    assert file.trouble == "gpu_metrics.csv: is written by somebody else: it is theirs"


def test_a_file_is_not_touched_while_another_program_is_expected_to_write_it(path: Path) -> None:
    file = CsvFile(str(path), HEADER, held_s=0.2)
    assert not file.append(b"1, 1, 1\n")
    assert not path.exists()
    assert file.trouble == "gpu_metrics.csv: the script writes it itself"
    wait_until(lambda: file.append(b"2, 2, 2\n"))
    assert path.read_bytes() == HEADER + b"2, 2, 2\n"


WRITER = """
import sys, time
from evalmon_agent.agent.sampling import csv_file
csv_file._REOPEN_AFTER_S = 0.0
file = csv_file.CsvFile(sys.argv[1], b"timestamp, a, b\\n")
said = [file.append(b"%d, 2, 3\\n" % number) for number in range(int(sys.argv[2]))]
print(said.count(False), file.trouble, sep="|")
"""


@pytest.mark.survives("F2")
@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "ESTALE", "EIO"])
@pytest.mark.survives("F2", "F3")
def test_rows_without_room_are_dropped_and_later_ones_are_written(path: Path, error: str) -> None:
    leave(path, b"")
    argv = ["strace", "-o", "/dev/null", "-P", str(path), "-e", f"inject=write:error={error}:when=3..4"]
    argv += [sys.executable, "-c", WRITER, str(path), "5"]
    done = subprocess.run(argv, env=environ(), capture_output=True, text=True, timeout=30, check=True)
    dropped, trouble = done.stdout.split("|")
    assert (dropped, trouble.startswith("gpu_metrics.csv: ")) == ("2", True)
    assert path.read_bytes() == HEADER + b"0, 2, 3\n3, 2, 3\n4, 2, 3\n"


@pytest.mark.survives("F2", "F12")
def test_a_short_write_leaves_no_torn_line(path: Path) -> None:
    leave(path, b"")
    # At the limit the kernel writes a part, as on a full disk.
    script = f"ulimit -f 1; exec {sys.executable} -c '{WRITER}' {path} 200"
    done = subprocess.run(["bash", "-c", script], env=environ(), capture_output=True, text=True, timeout=30, check=True)
    assert "No space left" in done.stdout
    lines = path.read_bytes().splitlines(keepends=True)
    assert lines[0] == HEADER
    assert all(line.endswith(b", 2, 3\n") for line in lines[1:])
    assert len(b"".join(lines)) <= 1024


@pytest.mark.survives("F2")
@needs_root
@pytest.mark.survives("F2")
def test_on_a_full_disk_the_file_ends_with_a_whole_line_and_grows_again_when_there_is_room(tmp_path: Path) -> None:
    inner = (
        "import os, sys\n"
        "from evalmon_agent.agent.sampling import csv_file\n"
        "csv_file._REOPEN_AFTER_S = 0.0\n"
        "file = csv_file.CsvFile('m/x.csv', b'timestamp, a\\n')\n"
        "row = b'x' * 999 + b'\\n'\n"
        "said = [file.append(row) for _ in range(100)]\n"
        "assert said[0] and not said[-1], said\n"
        "os.unlink('m/ballast')\n"
        "assert file.append(row)\n"
        "lines = open('m/x.csv', 'rb').read().split(b'\\n')\n"
        "assert lines[-1] == b'' and all(len(line.rstrip()) == 999 for line in lines[1:-1]), [len(l) for l in lines]\n"
        "print(len(lines) - 2, said.count(False))\n"
    )
    mount = "mkdir m; mount -t tmpfs -o size=64k none m; head -c 20000 /dev/zero >m/ballast; chown $ME m"
    argv = as_root.in_namespace(mount, words=[sys.executable, "-c", inner], environ=environ())
    done = subprocess.run(argv, cwd=tmp_path, env=environ(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    written, dropped = map(int, done.stdout.split())
    assert written + dropped == 101
