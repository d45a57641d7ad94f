"""Tests the translation of a path inside a mount namespace into one outside."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.agent.witness.open_files import Paths, translations
from evalmon_agent.files.proc import Mount


def at(device: str, root: str, point: str) -> Mount:
    return Mount(point, "ext4", frozenset(), root=root, device=device)


OUTSIDE = [at("8:1", "/", "/"), at("0:40", "/", "/scratch"), at("0:41", "/home/u", "/home/u")]


@pytest.mark.parametrize(
    ("path", "inside", "expected"),
    [
        ("/mnt/logs/a", [at("8:1", "/", "/"), at("8:1", "/data/real", "/mnt")], ["/data/real/logs/a"]),
        ("/data/logs/a", [at("7:0", "/", "/"), at("0:40", "/me/run", "/data")], ["/scratch/me/run/logs/a"]),
        ("/root/a", [at("7:0", "/", "/"), at("0:41", "/home/u", "/root")], ["/home/u/a"]),
        ("/root", [at("0:41", "/home/u/x", "/root")], ["/home/u/x"]),
        # In a container's image, or below another user's mount.
        ("/tmp/a", [at("7:0", "/", "/")], []),
        ("/root/a", [at("0:41", "/home/other", "/root")], []),
        # The later of two mounts at one point counts.
        ("/mnt/a", [at("8:1", "/x", "/mnt"), at("0:40", "/y", "/mnt")], ["/scratch/y/a"]),
        # Outside, something else is mounted over it.
        ("/mnt/a", [at("8:1", "/scratch/x", "/mnt")], []),
    ],
)
def test_a_path_is_translated_by_device_and_position(path: str, inside: list[Mount], expected: list[str]) -> None:
    assert expected == [found for found, _ in translations(path, inside, OUTSIDE)]


NAMES = st.lists(st.sampled_from("abc"), max_size=3).map(lambda names: "/" + "/".join(names))
MOUNTS = st.lists(st.builds(at, st.sampled_from(["8:1", "8:2"]), NAMES, NAMES), max_size=5)


@given(NAMES, MOUNTS)
def test_a_path_is_unchanged_with_the_same_mounts(path: str, mounts: list[Mount]) -> None:
    found = [place for place, _ in translations(path, mounts, mounts)]
    assert path in found or not any(f"{path}/".startswith(f"{mount.point.rstrip('/')}/") for mount in mounts)


def test_a_path_is_unchanged_in_the_same_namespace() -> None:
    paths = Paths(os.getpid())
    assert paths.outside("/a/b") == "/a/b"
    assert paths.outside("file:///a/b%20c") == "/a/b c"
    assert paths.outside("s3://bucket/a") == "s3://bucket/a"
    assert paths.outside("a/b") is None
