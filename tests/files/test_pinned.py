"""Tests that a directory opened once stays the same, whatever happens to its path."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from evalmon_agent.files.pinned import Pinned, nowhere, shown


def test_the_opened_directory_is_used_after_it_was_renamed_and_replaced(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    held = Pinned(str(place))
    place.rename(tmp_path / "moved")
    place.mkdir()
    Path(held.io, "file").write_text("ours")
    assert (tmp_path / "moved" / "file").read_text() == "ours"
    assert os.listdir(place) == []
    assert not held.is_same(place.stat())
    assert held.is_same((tmp_path / "moved").stat())


@pytest.mark.survives("S1")
def test_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(NotADirectoryError):
            Pinned(str(tmp_path / name))
        with pytest.raises(NotADirectoryError):
            Pinned(str(tmp_path / name), below=Pinned(str(tmp_path), only_to_search=True))


def test_a_directory_below_an_open_one_is_opened_whatever_their_path_is_now(tmp_path: Path) -> None:
    above = tmp_path / "above"
    (above / "below").mkdir(parents=True)
    held = Pinned(str(above), only_to_search=True)
    above.rename(tmp_path / "moved")
    assert Pinned(str(above / "below"), below=held).is_same((tmp_path / "moved" / "below").stat())


def test_shown_replaces_the_io_path_by_the_directorys_path(tmp_path: Path) -> None:
    held = Pinned(str(tmp_path))
    assert shown(f"{held.io}/a and {held.io}: no") == f"{tmp_path}/a and {tmp_path}: no"
    assert shown(f"{held.io}0/a") == f"{held.io}0/a"
    assert shown(f"{nowhere('/exp/evalmon')}/x: gone") == "/exp/evalmon/x: gone"
    assert not os.path.exists(nowhere(str(tmp_path)))


def test_become_keeps_the_io_path_and_programs_do_not_inherit_the_descriptor(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    held = Pinned(str(first))
    before = held.io
    held.become(Pinned(str(second)))
    gc.collect()
    assert held.io == before
    assert held.is_same(second.stat())
    assert os.path.samefile(held.io, second)
    assert not os.get_inheritable(held.descriptor)


def test_the_descriptor_is_closed_with_the_last_reference(tmp_path: Path) -> None:
    held = Pinned(str(tmp_path))
    descriptor = held.descriptor
    del held
    gc.collect()
    assert not os.path.exists(f"/proc/self/fd/{descriptor}")
