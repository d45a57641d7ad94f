"""Tests that the completion job waits for accounting, hands over to a successor, and finishes once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import faults
from evalmon_agent.commands import complete as program
from evalmon_agent.commands.complete import complete
from evalmon_agent.settings import Settings
from experiments import Exp, ended, pending, running


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    found.register(r1_a="11", r1_b="12")
    found.accept("", "70", what="completion")
    found.slurm.remove("seff")
    return found


class Pauses:
    """What happens at each pause of the completion job, in order; afterwards it must not pause again."""

    def __init__(self, *happen: Callable[[], object]) -> None:
        self.happen = list(happen)

    def __call__(self, seconds: float) -> None:
        assert seconds > 0
        self.happen.pop(0)()


def run(exp: Exp, *pauses: Callable[[], object]) -> None:
    environ = {**exp.slurm.environ, "SLURM_JOB_ID": "70"}
    settings = Settings(poll_interval=0.001, seff_retry_delay=0.0)
    complete(exp.session(settings, environ=environ), sleep=Pauses(*pauses))


def is_complete(exp: Exp) -> bool:
    return bool(json.loads((exp.ours / "summary.json").read_text())["complete"])


def test_the_completion_job_measures_summarises_and_reports_once(exp: Exp) -> None:
    exp.slurm.show([ended("11"), ended("12", "FAILED")])
    run(exp)
    run(exp)
    assert is_complete(exp)
    assert len(exp.blocks("ALL_COMPLETE")) == 1
    assert len(exp.blocks("COMPUTE_METRICS")) == 2
    assert exp.slurm.accepted() == []


def test_the_completion_job_waits_for_accounting_and_asks_slurm_no_more_than_it_polls(exp: Exp) -> None:
    jobs = [ended("11", queued=True, accounted=False), ended("12", accounted=False)]
    exp.slurm.show(jobs)
    nothing = [lambda: None] * 4
    settings = Settings(poll_interval=60.0, seff_retry_delay=0.0)
    environ = exp.slurm.environ
    answers = lambda: exp.slurm.show([ended("11"), ended("12")])  # noqa: E731
    late = Pauses(*nothing, answers, lambda: exp.observer().observe_once(at_least_s=0))
    complete(exp.session(settings, environ=environ), sleep=late)
    assert is_complete(exp)
    # Its own poll, and the other observer's.
    assert len(exp.slurm.calls("squeue")) == 2


@pytest.mark.parametrize("job", [running("12"), pending("12")], ids=["running", "pending"])
def test_evals_that_are_active_again_get_a_successor(exp: Exp, job: object) -> None:
    exp.slurm.show([ended("11"), job])  # type: ignore[list-item]
    run(exp)
    assert [script for _, script in exp.slurm.accepted()] == ["evalmon-completion"]
    assert any("--dependency=afterany:12 " in call for call in exp.slurm.calls("sbatch"))
    assert not is_complete(exp)
    assert [block.splitlines()[1] for block in exp.blocks("COMPLETION_SUBMITTED")] == ["Job ID: 70", "Job ID: 1001"]
    exp.slurm.show([ended("11"), ended("12")])
    run(exp)
    assert is_complete(exp)
    assert len(exp.blocks("ALL_COMPLETE")) == 1


@pytest.mark.survives("F20")
@pytest.mark.parametrize("how", ["refused", "no sbatch on compute nodes", "killed after its id"])
def test_after_a_refused_successor_the_next_observer_finishes(exp: Exp, how: str) -> None:
    exp.slurm.show([ended("11"), running("12")])
    if how == "refused":
        exp.slurm.refuse("evalmon-completion", "sbatch: error: Access denied")
    elif how.startswith("no"):
        exp.slurm.remove("sbatch")
    else:
        exp.slurm.after("sbatch", "kill -KILL $$\n")
    run(exp)
    assert len(exp.slurm.accepted()) == how.startswith("killed")
    assert not is_complete(exp)
    exp.slurm.show([ended("11"), ended("12")])
    exp.observe_to_the_end()
    assert is_complete(exp)


@pytest.mark.survives("F17")
def test_without_accounting_the_jobs_report_decides_in_the_end(exp: Exp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PATIENCE_S", -1.0)
    exp.slurm.fail("sacct", "Slurm accounting storage is disabled")
    exp.slurm.show([])
    for job, code in (("11", 0), ("12", 3)):
        exp.report(job, ended_at=1_700_000_300.0, elapsed_s=240.0, exit_code=code, scope="job")
    run(exp)
    assert is_complete(exp)
    states = {ev["name"]: ev["state"] for ev in json.loads((exp.ours / "summary.json").read_text())["evals"]}
    assert states == {"r1/a": "COMPLETED", "r1/b": "FAILED"}


def test_the_completion_job_finishes_what_a_killed_one_began(exp: Exp, tmp_path: Path) -> None:
    exp.slurm.show([ended("11"), ended("12")])
    found = faults.points(lambda: run(exp), tmp_path / "trace")
    assert is_complete(exp)
    for number, point in enumerate(found[:: max(len(found) // 12, 1)]):
        other = Exp(tmp_path / str(number))
        other.register(r1_a="11", r1_b="12")
        other.accept("", "70", what="completion")
        other.slurm.remove("seff")
        other.slurm.show([ended("11"), ended("12")])
        faults.killed_at(lambda other=other: run(other), point)  # type: ignore[misc]
        run(other)
        assert is_complete(other)
        assert len(other.blocks("ALL_COMPLETE")) == 1, point
        assert len(other.blocks("COMPUTE_METRICS")) == 2, point


def test_a_held_lock_and_a_full_disk_are_waited_for(exp: Exp) -> None:
    exp.slurm.show([ended("11"), ended("12")])
    (exp.ours / "state.json.lock").mkdir()
    run(exp, lambda: None, lambda: (exp.ours / "state.json.lock").rmdir())
    assert is_complete(exp)


@pytest.mark.survives("F18")
def test_a_requeued_eval_reopens_the_experiment(exp: Exp) -> None:
    exp.slurm.show([ended("11"), ended("12", "NODE_FAIL")])
    run(exp)
    assert is_complete(exp)
    again = running("12", submitted=1_700_001_000, started=1_700_001_060)
    exp.slurm.show([ended("11"), again])
    exp.observer().observe_once(at_least_s=0)
    assert exp.state()["completion"]["status"] != "complete"
    over = ended("12", submitted=1_700_001_000, started=1_700_001_060, ended=1_700_001_352)
    exp.slurm.answer("squeue", "")
    exp.slurm.answer("sacct", "".join(j.account_rows() for j in (ended("11"), ended("12", "NODE_FAIL"), over)))
    run(exp)
    assert is_complete(exp)
    assert len(exp.blocks("ALL_COMPLETE")) == 2


def test_an_unregistered_eval_is_waited_for(exp: Exp) -> None:
    """A successor that does not depend on it would start at once, submit the next, and so on."""
    exp.slurm.show([ended("11"), ended("12"), running("90")])
    exp.report("90", "mine/late", started_at=1_700_000_060.0)
    run(exp)
    [successor] = [call for call in exp.slurm.calls("sbatch") if "evalmon-completion" in call]
    assert "--dependency=afterany:90 " in successor
    exp.slurm.show([ended("11"), ended("12"), ended("90")])
    exp.report("90", "mine/late", started_at=1_700_000_060.0, ended_at=1_700_000_300.0, exit_code=0)
    run(exp)
    assert is_complete(exp)
    assert set(exp.state()["evals"]) == {"r1/a", "r1/b", "mine/late"}


@pytest.mark.survives("F15")
def test_the_successor_starts_later_if_accounting_does_not_answer(exp: Exp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "PATIENCE_S", -1.0)
    exp.slurm.show([ended("11"), ended("12", queued=False, accounted=False)])
    run(exp)
    assert any("--begin=now+" in call for call in exp.slurm.calls("sbatch"))
    assert not is_complete(exp)


def test_a_completion_job_hands_over_before_its_short_time_limit(exp: Exp) -> None:
    exp.slurm.show([ended("11"), ended("12", queued=False, accounted=False)])
    environ = {**exp.slurm.environ, "SLURM_JOB_ID": "70", "SLURM_JOB_END_TIME": str(int(time.time()) + 4)}
    settings = Settings(poll_interval=60.0, seff_retry_delay=0.0)
    began = time.monotonic()
    complete(exp.session(settings, environ=environ), sleep=lambda _: time.sleep(0.5))
    assert time.monotonic() - began < 4
    assert [script for _, script in exp.slurm.accepted()] == ["evalmon-completion"]
