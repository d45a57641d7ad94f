"""Tests that another user's links are not followed and another user's files are not read."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import second_user
from as_root import not_as_root
from evalmon_agent.files.trusted import ForeignError, OwnedFiles, open_directory, open_file, open_listing

ME = os.geteuid()


def content(path: str | Path, *, owner: int = ME) -> bytes:
    descriptor = open_file(path, owner=owner)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def refused(work: Callable[[], object]) -> ForeignError:
    with pytest.raises(ForeignError) as caught:
        work()
    return caught.value


@pytest.fixture
def place(tmp_path: Path) -> Path:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (below / "file").write_bytes(b"mine")
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_stays_open() -> object:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before


def test_a_file_is_opened_by_any_spelling_of_its_path(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for path in (place / "a/b/file", "a/b/file", f"{place}//a/./b/../b/file", "./a/b/file"):
        assert content(path) == b"mine"


@pytest.mark.parametrize("target", ["absolute", "a", "./a/../a", "a/b/.."])
def test_the_owners_links_are_followed_as_the_kernel_does(place: Path, target: str) -> None:
    (place / "link").symlink_to(place / "a" if target == "absolute" else target)
    (place / "a" / "b" / "last").symlink_to("file")
    assert content(place / "link" / "b" / "last") == b"mine"
    descriptor = open_listing(place / "link" / "b", owner=ME)
    assert sorted(os.listdir(descriptor)) == ["file", "last"]
    os.close(descriptor)


def test_a_link_to_the_root_directory_is_followed(place: Path) -> None:
    (place / "root").symlink_to("/")
    descriptor = open_listing(place / "root", owner=ME)
    assert os.path.samestat(os.fstat(descriptor), os.stat("/"))
    os.close(descriptor)
    assert content(f"{place}/root{place}/a/b/file") == b"mine"


def test_another_users_link_is_not_followed_anywhere_in_the_path(place: Path) -> None:
    link = place / "link"
    link.symlink_to(place / "a")
    second_user.give(link)
    error = refused(lambda: content(link / "b" / "file"))
    assert (error.filename, error.uid) == (str(link), second_user.uid())
    refused(lambda: open_listing(link, owner=ME))
    refused(lambda: open_directory(link / "new", owner=ME, is_made=True))
    assert os.listdir(place / "a") == ["b"]
    last = place / "a" / "b" / "last"
    last.symlink_to("file")
    second_user.give(last)
    assert refused(lambda: content(last)).filename == str(last)
    # Nor is one to which the owner's own link leads.
    (place / "mine").symlink_to(link)
    assert refused(lambda: content(place / "mine" / "b" / "file")).filename == str(link)


def test_another_users_file_is_not_opened_but_its_directory_may_be_theirs(place: Path) -> None:
    theirs = place / "theirs"
    theirs.mkdir()
    (place / "a" / "b" / "file").rename(theirs / "file")
    second_user.give(theirs)
    assert content(theirs / "file") == b"mine"
    second_user.give(theirs / "file")
    error = refused(lambda: content(theirs / "file"))
    assert (error.filename, error.uid) == (str(theirs / "file"), second_user.uid())
    # A colleague who reads their experiment gets it: there it is the owner's.
    assert content(theirs / "file", owner=second_user.uid()) == b"mine"


def test_a_hard_link_counts_like_the_first_name(place: Path) -> None:
    os.link(place / "a" / "b" / "file", place / "second")
    assert content(place / "second") == b"mine"


def test_anything_but_a_regular_file_is_refused_at_once(place: Path) -> None:
    os.mkfifo(place / "fifo")
    (place / "link").symlink_to("fifo")
    began = time.monotonic()
    for path in (
        place / "fifo",
        place / "link",
        place / "a",
        "/dev/zero",
        "/",
        place / "gone",
        f"{place}/\0",
        f"{place}/\ud800",
        "",
    ):
        with pytest.raises(OSError, match=r".") as caught:
            content(path)
        assert not isinstance(caught.value, ForeignError)
    assert time.monotonic() - began < 1


def test_circular_and_endless_links_are_refused(place: Path) -> None:
    (place / "round").symlink_to("round")
    for number in range(41):
        (place / str(number)).symlink_to(str(number + 1))
    (place / "41").write_bytes(b"far")
    assert content(place / "1") == b"far"
    for name in ("round", "0"):
        with pytest.raises(OSError, match="Too many levels"):
            content(place / name)


def test_an_open_directory_stays_the_same_wherever_its_path_leads(place: Path) -> None:
    descriptor = os.open(place / "a", os.O_RDONLY)
    (place / "a").rename(place / "away")
    (place / "a" / "b").mkdir(parents=True)
    (place / "a" / "b" / "file").write_bytes(b"another")
    assert content(f"/proc/self/fd/{descriptor}/b/file") == b"mine"
    os.close(open_listing(f"/proc/self/fd/{descriptor}", owner=ME))
    os.close(descriptor)
    with pytest.raises(FileNotFoundError):
        content("/proc/self/fd/-1/file")


def test_missing_directories_are_created(place: Path) -> None:
    (place / "link").symlink_to("a")
    descriptor = open_directory(place / "link" / "new" / "deep", owner=ME, is_made=True)
    os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    assert (place / "a" / "new" / "deep" / "x").exists()
    with pytest.raises(FileNotFoundError, match="other"):
        open_directory(place / "other", owner=ME)
    with pytest.raises(NotADirectoryError):
        open_directory(place / "a" / "b" / "file" / "x", owner=ME, is_made=True)


def test_a_directory_that_can_be_entered_but_not_read_is_passed_through(place: Path) -> None:
    (place / "a").chmod(0o311)
    try:
        assert content(place / "a" / "b" / "file") == b"mine"
    finally:
        (place / "a").chmod(0o755)


FLIP = """
import os, sys
real, link, at = sys.argv[1:]
while True:
    os.rename(real, at), os.rename(at, real)
    os.rename(link, at), os.rename(at, link)
"""


def test_nothing_is_read_through_another_users_link_during_renames(place: Path) -> None:
    precious = place / "precious"
    (precious / "b").mkdir(parents=True)
    (precious / "b" / "file").write_bytes(b"precious")
    link, at = place / "link", place / "at"
    link.symlink_to(precious)
    second_user.give(link)
    seen: Counter[bytes | str] = Counter()
    with subprocess.Popen([sys.executable, "-c", FLIP, place / "a", link, at]) as flips:
        try:
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline and not (seen[b"mine"] > 100 and seen["ForeignError"] > 100):
                try:
                    seen[content(at / "b" / "file")] += 1
                except OSError as error:
                    seen[type(error).__name__] += 1
        finally:
            flips.kill()
    assert set(seen) <= {b"mine", "ForeignError", "FileNotFoundError", "NotADirectoryError", "OSError"}
    assert seen[b"mine"] > 0
    assert seen["ForeignError"] > 0


FILES = OwnedFiles(os.geteuid())


def test_a_short_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    assert FILES.read_tail(path) == b"one\ntwo\n"


def test_the_end_of_a_long_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 70000 + b"end")
    assert FILES.read_tail(path, limit_bytes=5) == b"xxend"
    found = FILES.read_tail(path)
    assert found is not None
    assert len(found) == 65536


@pytest.mark.survives("S10")
def test_only_64_kib_of_ten_gigabytes_without_a_newline_are_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.truncate(10 * 2**30)
    found = FILES.read_tail(path)
    assert found == b"\0" * 65536


def test_an_empty_file_gives_no_bytes_and_a_missing_file_none(tmp_path: Path) -> None:
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


def test_other_users_files_are_remembered_up_to_a_limit(tmp_path: Path) -> None:
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


@not_as_root
def test_an_unreadable_file_gives_none(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.touch(mode=0)
    assert FILES.read_tail(path) is None
