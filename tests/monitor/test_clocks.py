"""Tests clocks that jump, differ between hosts, or change for daylight saving: the log stays true."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from experiments import Exp, ended, pending, running
from fake_slurm import Job

pytestmark = pytest.mark.survives("F9")

HOUR, DAY = 3600, 86_400
BACK = 1_761_440_400
"""2025-10-26 01:00 UTC: in Berlin 03:00 becomes 02:00."""
FORTH = 1_743_296_400
"""2025-03-30 01:00 UTC: in Berlin 02:00 becomes 03:00."""


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    found.register(r1_a="11", r1_b="12")
    return found


def life(job_id: str, **more: int) -> list[Job]:
    return [pending(job_id, **more), running(job_id, **more), ended(job_id, queued=True, **more), ended(job_id, **more)]


@pytest.mark.parametrize(
    ("change", "started", "completed", "offsets"),
    [
        pytest.param(BACK, "2025-10-26 02:30:00", "2025-10-26 02:30:00", ("+02:00", "+01:00"), id="an hour twice"),
        pytest.param(FORTH, "2025-03-30 01:30:00", "2025-03-30 03:30:00", ("+01:00", "+02:00"), id="an hour left out"),
    ],
)
def test_across_a_change_of_daylight_saving_time_an_hour_is_an_hour(
    exp: Exp, in_berlin: None, change: int, started: str, completed: str, offsets: tuple[str, str]
) -> None:
    stamps = {"submitted": change - 2400, "started": change - 1800, "ended": change + 1800, "elapsed": HOUR}
    for job in life("11", **stamps, limit_min=120):
        exp.slurm.show([job, ended("12", "FAILED", **stamps, limit_min=120)])
        exp.observer(clock=lambda: change + 2000.0).observe_once(at_least_s=0)
    exp.slurm.remove("seff")
    exp.observe_to_the_end()
    [begun, over] = [b for b in exp.blocks("STATE_CHANGE") if ": r1/a\n" in b]
    assert f"At: {started}" in begun
    assert f"Completed: {completed}\nElapsed: 1h 0m 0s\n" in over
    assert "GPU Time: 01:00:00 / 02:00:00 (50%)" in exp.blocks("COMPUTE_METRICS")[0]
    assert "Total time: 1 hour 10 minutes" in exp.blocks("ALL_COMPLETE")[0]
    ev = json.loads((exp.ours / "summary.json").read_text())["evals"][0]
    assert (ev["started"][-6:], ev["ended"][-6:], ev["elapsed_s"], ev["queue_s"]) == (*offsets, HOUR, 600)


@pytest.mark.parametrize(
    "offsets",
    [
        pytest.param((-300, 300), id="two hosts ten minutes apart"),
        pytest.param((0, -HOUR, 0, -HOUR), id="back an hour, again and again"),
        pytest.param((0, DAY, 0, DAY), id="forward a day and back"),
        pytest.param((DAY, 0, -DAY, 300), id="anything"),
    ],
)
def test_observers_with_different_clocks_write_one_true_log(exp: Exp, offsets: Sequence[int]) -> None:
    # What squeue shows while accounting lags; the jobs' hosts have clocks of their own.
    first, second = life("11"), life("12")
    exp.report("11", "r1/a", started_at=time.time() - 300)
    number = 0
    for step in range(8):
        jobs = [first[min(step // 2, 3)], second[min(max(step - 1, 0) // 2, 3)]]
        exp.slurm.show(jobs)
        for _ in range(2):
            offset = offsets[number % len(offsets)]
            number += 1
            observed = exp.observer(clock=lambda offset=offset: time.time() + offset).observe_once(at_least_s=0)
            assert observed.asked
    exp.report("11", "r1/a", started_at=time.time() - 300, ended_at=time.time() - 200, elapsed_s=100.0, exit_code=0)
    exp.observe_to_the_end()
    for name in ("r1/a", "r1/b"):
        steps = [(before, after) for who, before, after in exp.transitions() if who == name]
        assert steps == [("PENDING", "RUNNING"), ("RUNNING", "COMPLETED")]
    summary = json.loads((exp.ours / "summary.json").read_text())
    durations = [ev[key] for ev in summary["evals"] for key in ("elapsed_s", "queue_s")]
    assert all(value >= 0 for value in [*durations, summary["total_time_s"]])


@pytest.mark.parametrize("offset", [HOUR, DAY])
def test_a_clock_that_jumps_forward_causes_no_timeout(exp: Exp, offset: int) -> None:
    exp.slurm.show([running("11"), running("12")])
    exp.observer().observe_once(at_least_s=0)
    exp.slurm.show([running("12")])
    exp.slurm.answer("sacct", "")
    for late in (0, offset, offset + 60, 120):
        exp.observer(clock=lambda late=late: time.time() + late).observe_once(at_least_s=0)
    assert "LOST" not in exp.log()
    assert {ev["state"] for ev in exp.state()["evals"].values()} == {"RUNNING"}
