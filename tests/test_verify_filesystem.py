"""Tests that scripts/verify-filesystem accepts sound file systems and detects broken ones."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import as_root
from verify_filesystem.locking import overlapping

ROOT = Path(__file__).resolve().parents[1]
ALWAYS_SUCCEEDS = "int flock(int fd, int operation) { (void)fd; (void)operation; return 0; }\n"


def argv(*words: str | Path) -> list[str]:
    sizes = ["--processes", "2", "--rounds", "60", "--json"]
    return [sys.executable, "-m", "verify_filesystem", *map(str, words), *sizes]


def environ(**more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    return {**plain, "PYTHONPATH": str(ROOT / "scripts"), **more}


def verify(*words: str | Path, **env: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(argv(*words), env=environ(**env), capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    return done.returncode, {**found, **{one["what"]: one for one in found["findings"]}}


@contextmanager
def mounted(*command: str | Path, at: Path) -> Iterator[Path]:
    """A FUSE file system, mounted by the test."""
    at.mkdir()
    subprocess.run([*map(str, command), str(at)], check=True)
    try:
        yield at
    finally:
        subprocess.run([shutil.which("fusermount3") or "fusermount", "-u", "-z", str(at)], check=True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place"


def test_holds_overlap_if_one_begins_before_an_earlier_one_ended_on_the_same_machine() -> None:
    assert overlapping([("a", 1.0, 2.0), ("a", 2.0, 3.0), ("a", 3.5, 4.0)]) == 0
    assert overlapping([("a", 3.0, 4.0), ("a", 1.0, 3.5), ("a", 3.2, 3.3)]) == 2
    assert overlapping([("a", 1.0, 2.0), ("b", 1.0, 2.0)]) == 0


@pytest.mark.parametrize("kind", ["flock", "soft"])
def test_a_local_directory_is_sound_and_left_clean(place: Path, kind: str) -> None:
    status, found = verify(place, "--kind", kind)
    assert (status, found["sound"]) == (0, True)
    assert found[f"lock ({kind})"]["words"].endswith("held it 120 times: 0 overlapping holds, 0 lost updates")
    assert (found["tried"], found["mounts"][0]["lock"]) == (kind, "flock")
    assert os.listdir(place) == []


@pytest.mark.survives("F5")
@as_root.needs_root
def test_two_mounts_of_one_directory_are_sound(place: Path, tmp_path: Path) -> None:
    with as_root.mounted(tmp_path / "other", "--bind", place) as other:
        status, found = verify(place, other)
    assert (status, found["sound"]) == (0, True)
    assert "4 processes on 1 machine held it 240 times" in found["lock (flock)"]["words"]


@pytest.mark.survives("F5")
def test_a_flock_that_always_succeeds_is_detected(place: Path, tmp_path: Path) -> None:
    library = tmp_path / "broken.so"
    (tmp_path / "broken.c").write_text(ALWAYS_SUCCEEDS)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "broken.c"], check=True)
    status, found = verify(place, "--kind", "flock", LD_PRELOAD=str(library))
    assert (status, found["sound"], found["lock (flock)"]["is_sound"]) == (1, False, False)
    assert " 0 overlapping holds" not in found["lock (flock)"]["words"]
    # The other kind of lock is not affected.
    assert verify(place, "--kind", "soft", LD_PRELOAD=str(library))[0] == 0


def sftp_server(tmp_path: Path) -> Path:
    """What sshfs starts in place of ssh: the server directly."""
    program = tmp_path / "sftp"
    program.write_text("#!/bin/sh\nexec /usr/lib/openssh/sftp-server\n")
    program.chmod(0o755)
    return program


@pytest.mark.survives("F5")
@pytest.mark.parametrize(
    "how",
    [
        "bindfs",
        pytest.param("sshfs", marks=pytest.mark.full),
        pytest.param("sshfs without hard links", marks=pytest.mark.full),
    ],
)
def test_a_flock_local_to_each_mount_is_detected_and_evalmon_uses_the_other_kind(
    place: Path, tmp_path: Path, how: str
) -> None:
    """Two FUSE mounts behave like two nodes."""
    program = how.split(" ", maxsplit=1)[0]
    if shutil.which(program) is None or not os.access("/dev/fuse", os.R_OK | os.W_OK):
        pytest.skip(f"needs {program} and leave to use /dev/fuse")
    command: list[str | Path] = [program, place]
    if program == "sshfs":
        without = ",disable_hardlink" if how.endswith("links") else ""
        command = [program, "-o", f"ssh_command={sftp_server(tmp_path)}{without}", f"x:{place}"]
    with ExitStack() as mounts:
        one, other = (mounts.enter_context(mounted(*command, at=tmp_path / name)) for name in ("one", "other"))
        status, found = verify(one, other, "--kind", "flock")
        assert (status, found["lock (flock)"]["is_sound"]) == (1, False)
        assert {mount["lock"] for mount in found["mounts"]} == {"soft"}
        _, found = verify(one, other)
        assert found["tried"] == "soft"
        if how.endswith("links"):
            assert "no lock works on this file system" in found["lock (soft)"]["words"]
            return
        assert " 0 overlapping holds" in found["lock (soft)"]["words"], found["lock (soft)"]["words"]
        # sshfs caches sizes: reads under the lock may be incomplete; the check detects that where it happens.
        if program != "sshfs":
            assert found["lock (soft)"]["is_sound"], found["lock (soft)"]["words"]


def test_two_hosts_are_checked_together(place: Path) -> None:
    words = argv(place, "--hosts", "2", "--meet", "us")
    hosts = [
        subprocess.Popen(words, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [host.communicate(timeout=120) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], said
    for out, _ in said:
        assert "4 processes on 1 machine held it 240 times" in out
    assert os.listdir(place) == []


def test_wrong_usage_is_reported(place: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for words, says in (
        ((place, tmp_path / "other"), "are not one directory"),
        ((place / "gone",), "not a directory that you can write to"),
        ((place, "--hosts", "2"), "--hosts needs --meet NAME"),
    ):
        done = subprocess.run(argv(*words), env=environ(), capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr
    assert os.listdir(place) == []
