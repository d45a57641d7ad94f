"""Tests that a long-lived observer logs and records the same as observers that start anew for each poll."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from evalmon_agent.monitor.poll import Observer
from evalmon_agent.tracking.registry import Accepted, Intent, Submission
from evalmon_agent.words.job_id import JobId
from experiments import SUBMITTED, Exp, ended, pending, running
from fake_slurm import Job

NOW = SUBMITTED + 1000.0
STAGES = (pending, running, ended)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def jobs_over_time(random: Random) -> Iterator[list[Job]]:
    """Slurm's answer at each poll: pending, running and ended jobs, some of them missing for a while."""
    stages = dict.fromkeys(map(str, range(11, 17)), 0)
    while True:
        stages = {job_id: min(stage + (random.random() < 0.3), 2) for job_id, stage in stages.items()}
        reason = random.choice(["Priority", "JobHeldUser"])
        shown = [STAGES[stage](job_id, reason=reason) for job_id, stage in stages.items() if random.random() < 0.9]
        for job in shown:
            job.queued = not job.over or random.random() < 0.5
            job.accounted = random.random() < 0.8
        yield shown


def what_is_known(exp: Exp) -> dict[str, Any]:
    state = json.loads((exp.ours / "state.json").read_text().replace(str(exp.root), "ROOT"))
    return {key: value for key, value in state.items() if key not in {"generation", "reported"}}


@pytest.mark.survives("F7")
@pytest.mark.parametrize("seed", range(4))
def test_a_long_lived_observer_logs_and_records_the_same_as_new_ones(tmp_path: Path, seed: int) -> None:
    random, clock = Random(seed), Clock()
    lives, anew = Exp(tmp_path / "lives"), Exp(tmp_path / "anew")
    living = lives.observer(clock=clock)
    for exp in (lives, anew):
        exp.register(**{f"r1_e{job_id}": str(job_id) for job_id in range(11, 17)})
    for number, shown in zip(range(10), jobs_over_time(random), strict=False):
        clock.now += random.choice([60.0, 60.0, 600.0])
        is_other, reports, fails = (random.random() < 0.2 for _ in range(3))
        for exp in (lives, anew):
            exp.slurm.show(shown)
            exp.slurm.mend("squeue")
            if fails:
                exp.slurm.fail("squeue", "Socket timed out")
            if reports:
                exp.report(str(11 + number % 6), started_at=NOW + number)
            if number == 5:
                exp.accept("r1/late", "16" if seed % 2 else "17")
        (lives.observer(clock=clock) if is_other else living).observe_once(at_least_s=0)
        anew.observer(clock=clock).observe_once(at_least_s=0)
        assert what_is_known(anew) == what_is_known(lives)
    text = {exp: exp.log().replace(str(exp.root), "ROOT") for exp in (lives, anew)}
    assert text[anew] == text[lives]


def test_a_state_that_another_process_wrote_or_removed_is_not_overwritten_from_memory(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.slurm.show([running("11")])
    living = exp.observer()
    living.observe_once(at_least_s=0)
    exp.accept("r1/b", "12")
    exp.observer().record()
    living.record()
    assert set(exp.state()["evals"]) == {"r1/a", "r1/b"}
    (exp.ours / "state.json").write_text("{")
    living.observe_once(at_least_s=0)
    assert len(list(exp.ours.glob("state.json.corrupt-*"))) == 1
    living.observe_once(at_least_s=0)
    assert exp.blocks().count(next(b for b in exp.blocks() if "could not be read" in b)) == 1
    assert exp.state()["evals"]["r1/a"]["state"] == "RUNNING"


def of_an_array(exp: Exp, tasks: int) -> Observer:
    exp.experiment.prepare(group_readable=False)
    submission = Submission("r1/array", str(exp.root / "array.slurm"), tasks=tuple(range(tasks)), token="a" * 16)
    exp.experiment.ledger.append(Intent(submission, SUBMITTED - 1.0, "host", 1))
    exp.experiment.ledger.append(Accepted("a" * 16, JobId("50"), SUBMITTED + 0.5))
    command = f"{exp.ours}/scripts/{'a' * 16}/array.slurm"
    exp.slurm.answer("squeue", "".join(pending(f"50_{task}", command=command).queue_row() for task in range(tasks)))
    return exp.observer()


def test_a_poll_without_news_neither_reads_nor_writes_the_state_and_costs_almost_nothing(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    observer = of_an_array(exp, 2000)
    costs = []
    for _ in range(4):
        began = time.process_time()
        observer.observe_once(at_least_s=0)
        costs.append(time.process_time() - began)
    version = (exp.ours / "state.json").stat().st_mtime_ns
    observer.observe_once(at_least_s=0)
    assert version == (exp.ours / "state.json").stat().st_mtime_ns
    assert costs[-1] < costs[0] / 4, costs
