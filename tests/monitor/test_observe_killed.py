"""Tests that a kill or an error at any system call of an observer's transactions loses and doubles no block.

Each run is everything that observers do: a poll with several transitions, the figures of ended evals, the end with its
summary. Then an undisturbed observer polls with the same answers, and the log must be that of an undisturbed run. CI
tests every n-th system call, `full` all of them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import faults
from as_root import needs_root
from experiments import Exp, ended, running
from faults import Point

pytestmark = faults.needs_strace

KINDS = ("flock", "soft")
ERRORS = ("ENOSPC", "EIO", "EDQUOT")
WRITES = {"write", "pwrite64", "fsync", "rename", "ftruncate", "link", "unlink", "close", "openat"}
JOBS = [ended("11"), ended("12", "FAILED", exit_code="3:0"), ended("13", "TIMEOUT")]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Runs:
    """Experiments in the same initial state: that of a first poll, and what Slurm answers afterwards."""

    def __init__(self, directory: Path, kind: str) -> None:
        self._directory = directory
        self._kind = kind
        self._number = 0
        whole = self.new()
        self.points = faults.points(whole.observe_to_the_end, directory / "trace")
        self.expected = whole.news()
        assert len(self.expected) == 12
        self.drop(whole)

    def new(self) -> Exp:
        self._number += 1
        exp = Exp(self._directory / str(self._number))
        exp.register(r1_a="11", r1_b="12", r1_c="13")
        (exp.ours / "lock.json").write_text(
            json.dumps({"kind": self._kind, "filesystem": "x", "host": "h", "schema": 1})
        )
        exp.slurm.show([running("11"), ended("12", "FAILED", exit_code="3:0", queued=True), running("13")])
        exp.observer().observe_once(at_least_s=0)
        exp.slurm.show(JOBS)
        exp.slurm.measure(JOBS[0])
        return exp

    def drop(self, exp: Exp) -> None:
        shutil.rmtree(exp.root.parent)

    def killed(self, points: Iterable[Point]) -> Iterator[tuple[Point, Exp]]:
        for point in points:
            exp = self.new()
            # One call fewer than in the first run is no error: then the observer was not killed.
            faults.killed_at(exp.observe_to_the_end, point)
            yield point, exp
            self.drop(exp)


def state_parses(exp: Exp) -> bool:
    return isinstance(exp.state()["evals"], dict)


def told(exp: Exp) -> list[str]:
    """The blocks except failed queries, which an injected error causes."""
    return [block for block in exp.news() if not block.startswith(("QUERY_ERROR", "ALERT"))]


def by_subject(blocks: list[str]) -> dict[str, list[str]]:
    """The blocks of each eval (and of the end) in their order; the order of the evals does not matter."""
    found: dict[str, list[str]] = {}
    for block in blocks:
        found.setdefault(block.split("\n")[0].partition(": ")[2], []).append(block)
    return found


def settles(exp: Exp, expected: list[str]) -> None:
    """Check that an undisturbed observer completes everything."""
    assert state_parses(exp)
    exp.observe_to_the_end()
    assert by_subject(told(exp)) == by_subject(expected)
    assert told(exp)[-1] == expected[-1]
    assert not [path for path in exp.ours.iterdir() if "corrupt" in path.name]
    assert json.loads((exp.ours / "summary.json").read_text())["complete"]
    for left in exp.temporaries():
        os.utime(exp.ours / left, (0, 0))
    exp.observe_to_the_end()
    assert exp.temporaries() == []
    assert len(told(exp)) == len(expected)


def kill_everywhere(directory: Path, kind: str, *, step: int) -> int:
    runs = Runs(directory, kind)
    chosen = runs.points[::step]
    for point, exp in runs.killed(chosen):
        with faults.noted(f"killed at {point}"):
            settles(exp, runs.expected)
    return len(chosen)


def refuse_everywhere(directory: Path, kind: str, error: str, *, step: int) -> int:
    runs = Runs(directory, kind)
    chosen = [point for point in runs.points if point[0] in WRITES][::step]
    for point in chosen:
        exp = runs.new()
        faults.refused_at(exp.observe_to_the_end, point, error)
        with faults.noted(f"{error} at {point}"):
            settles(exp, runs.expected)
        runs.drop(exp)
    return len(chosen)


@pytest.mark.survives("F1", "F26")
def test_a_kill_at_a_system_call_loses_and_doubles_no_block(tmp_path: Path, kind: str) -> None:
    assert kill_everywhere(tmp_path, kind, step=11) > 12


@pytest.mark.survives("F1", "F26")
@pytest.mark.full
def test_a_kill_at_any_system_call_loses_and_doubles_no_block(tmp_path: Path, kind: str) -> None:
    assert kill_everywhere(tmp_path, kind, step=1) > 150


@pytest.mark.survives("F2", "F3", "F4")
@pytest.mark.parametrize("error", ERRORS)
def test_a_refused_write_is_repeated_once_there_is_room(tmp_path: Path, error: str) -> None:
    assert refuse_everywhere(tmp_path, KINDS[ERRORS.index(error) % 2], error, step=17) > 8


@pytest.mark.survives("F2", "F3", "F4")
@pytest.mark.full
@pytest.mark.parametrize("error", ERRORS)
def test_any_refused_write_is_repeated_once_there_is_room(tmp_path: Path, kind: str, error: str) -> None:
    assert refuse_everywhere(tmp_path, kind, error, step=1) > 150


@pytest.mark.survives("F1", "F26")
def test_a_kill_of_the_first_observer_of_an_experiment_is_survived(tmp_path: Path) -> None:
    """Before its poll there is no state, no log and no lock.json."""
    first = Exp(tmp_path / "first")
    first.register(r1_a="11")
    first.slurm.show([ended("11")])
    points = faults.points(first.observe_to_the_end, tmp_path / "trace")
    expected = first.news()
    for number, point in enumerate(points[::16]):
        exp = Exp(tmp_path / str(number))
        exp.register(r1_a="11")
        exp.slurm.show([ended("11")])
        faults.killed_at(exp.observe_to_the_end, point)
        if (exp.ours / "state.json").exists():
            assert state_parses(exp)
        exp.observe_to_the_end()
        assert exp.news() == expected, point


@pytest.mark.survives("F2", "F22")
@needs_root
def test_everything_is_logged_once_a_full_disk_has_room_again(tmp_path: Path) -> None:
    with faults.small_disk(tmp_path / "disk", kib=256) as disk:
        exp = Exp(disk)
        exp.register(r1_a="11", r1_b="12", r1_c="13")
        exp.slurm.show([running("11"), running("12"), running("13")])
        exp.observer().observe_once(at_least_s=0)
        exp.slurm.show(JOBS)
        before = exp.log()
        ballast = disk / "ballast"
        assert subprocess.run(["cp", "/dev/zero", ballast], stderr=subprocess.DEVNULL, check=False).returncode
        for _ in range(3):
            with pytest.raises(OSError, match="No space left"):
                exp.observe_to_the_end()
        assert exp.log() == before
        assert state_parses(exp)
        ballast.unlink()
        exp.observe_to_the_end()
        assert [(name, current) for name, _, current in exp.transitions() if current != "RUNNING"] == [
            ("r1/a", "COMPLETED"),
            ("r1/b", "FAILED"),
            ("r1/c", "TIMEOUT"),
        ]
        assert len(exp.blocks("ALL_COMPLETE")) == 1
