"""A path is walked through no link of somebody else's, and what is opened is its owner's."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import second_user
from evalmon_agent.files.trusted import ForeignError, open_directory, open_file, open_listing

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


def test_a_file_is_read_by_any_spelling_of_its_path(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for path in (place / "a/b/file", "a/b/file", f"{place}//a/./b/../b/file", "./a/b/file"):
        assert content(path) == b"mine"


@pytest.mark.parametrize("target", ["absolute", "a", "./a/../a", "a/b/.."])
def test_links_of_the_owner_are_followed_like_the_kernel_does(place: Path, target: str) -> None:
    (place / "link").symlink_to(place / "a" if target == "absolute" else target)
    (place / "a" / "b" / "last").symlink_to("file")
    assert content(place / "link" / "b" / "last") == b"mine"
    descriptor = open_listing(place / "link" / "b", owner=ME)
    assert sorted(os.listdir(descriptor)) == ["file", "last"]
    os.close(descriptor)


def test_a_link_to_the_root_leads_there(place: Path) -> None:
    (place / "root").symlink_to("/")
    descriptor = open_listing(place / "root", owner=ME)
    assert os.path.samestat(os.fstat(descriptor), os.stat("/"))
    os.close(descriptor)
    assert content(f"{place}/root{place}/a/b/file") == b"mine"


def test_a_link_of_somebody_else_is_not_followed_wherever_it_stands(place: Path) -> None:
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
    # Neither is one to which a link of one's own leads.
    (place / "mine").symlink_to(link)
    assert refused(lambda: content(place / "mine" / "b" / "file")).filename == str(link)


def test_a_file_of_somebody_else_is_not_opened_but_its_directory_may_be_theirs(place: Path) -> None:
    theirs = place / "theirs"
    theirs.mkdir()
    (place / "a" / "b" / "file").rename(theirs / "file")
    second_user.give(theirs)
    assert content(theirs / "file") == b"mine"
    second_user.give(theirs / "file")
    error = refused(lambda: content(theirs / "file"))
    assert (error.filename, error.uid) == (str(theirs / "file"), second_user.uid())
    # For a colleague who reads their experiment it is the owner's.
    assert content(theirs / "file", owner=second_user.uid()) == b"mine"


def test_a_second_name_of_a_file_counts_like_the_first(place: Path) -> None:
    os.link(place / "a" / "b" / "file", place / "second")
    assert content(place / "second") == b"mine"


def test_what_is_no_file_is_refused_at_once(place: Path) -> None:
    os.mkfifo(place / "fifo")
    (place / "link").symlink_to("fifo")
    began = time.monotonic()
    for path in (place / "fifo", place / "link", place / "a", "/dev/zero", "/", place / "gone", f"{place}/\0", ""):
        with pytest.raises(OSError, match=r".") as caught:
            content(path)
        assert not isinstance(caught.value, ForeignError)
    assert time.monotonic() - began < 1


def test_links_in_a_circle_and_without_end_are_refused(place: Path) -> None:
    (place / "round").symlink_to("round")
    for number in range(41):
        (place / str(number)).symlink_to(str(number + 1))
    (place / "41").write_bytes(b"far")
    assert content(place / "1") == b"far"
    for name in ("round", "0"):
        with pytest.raises(OSError, match="Too many levels"):
            content(place / name)


def test_what_is_missing_is_made_below_what_is_there(place: Path) -> None:
    (place / "link").symlink_to("a")
    descriptor = open_directory(place / "link" / "new" / "deep", owner=ME, is_made=True)
    os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    assert (place / "a" / "new" / "deep" / "x").exists()
    with pytest.raises(FileNotFoundError, match="other"):
        open_directory(place / "other", owner=ME)
    with pytest.raises(NotADirectoryError):
        open_directory(place / "a" / "b" / "file" / "x", owner=ME, is_made=True)


def test_a_directory_is_walked_that_may_be_entered_and_not_read(place: Path) -> None:
    (place / "a").chmod(0o311)
    try:
        assert content(place / "a" / "b" / "file") == b"mine"
    finally:
        (place / "a").chmod(0o755)
