"""Tests that seff is asked after an attempt's end and once more later, and then accounting is used."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from evalmon_agent.monitor import finish as measure_module
from evalmon_agent.monitor.finish import ACCOUNTING_PATIENCE_S, Measurer, look_again, measure
from evalmon_agent.slurm import client
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.timeline import unmeasured
from experiments import Exp, ended, record_script

DELAY_S = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_001_000.0

    def __call__(self) -> float:
        return self.now


class Measuring:
    """An experiment with one ended eval, measured step by step with a simulated clock."""

    def __init__(self, exp: Exp) -> None:
        self.exp = exp
        self.clock = Clock()
        self.measurer = Measurer(session=exp.session(), retry_delay_s=DELAY_S)
        self.state: ExperimentState = exp.observer().observe_once(at_least_s=0).state

    def step(self, *, final: bool = False) -> str | None:
        """The source of the figures that this step captured."""
        found = self.measurer.step(self.state, unmeasured(self.state), clock=self.clock, at_most_s=5, final=final)
        self.state = self.exp.observer().record(measurements=found)
        return found[0].figures.source if found else None

    @property
    def waits_s(self) -> float | None:
        at = self.measurer.next_at(unmeasured(self.state))
        return None if at is None else at - self.clock.now

    @property
    def asked(self) -> int:
        return len(self.exp.slurm.calls("seff"))


@pytest.fixture
def measuring(tmp_path: Path) -> Measuring:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.slurm.show([ended("11")])
    return Measuring(exp)


def test_a_seff_that_has_figures_is_asked_once(measuring: Measuring) -> None:
    measuring.exp.slurm.measure(ended("11"))
    assert measuring.step() == "seff"
    assert measuring.waits_s is None
    assert measuring.step() is None
    assert measuring.asked == 1


def test_what_a_failed_seff_prints_is_no_report(measuring: Measuring) -> None:
    measuring.exp.slurm.measure(ended("11"))
    measuring.exp.slurm.after("seff", "exit 2\n")
    assert measuring.step() is None
    assert measuring.step(final=True) == "sacct"


def test_seff_without_data_is_asked_again_after_the_delay(measuring: Measuring) -> None:
    assert measuring.step() is None
    assert measuring.waits_s == DELAY_S
    measuring.clock.now += DELAY_S - 1
    assert measuring.step() is None
    assert measuring.asked == 1
    measuring.clock.now += 1
    measuring.exp.slurm.measure(ended("11"))
    assert measuring.step() == "seff"
    assert measuring.asked == 2


def test_after_the_second_try_accounting_is_used(measuring: Measuring) -> None:
    measuring.step()
    measuring.clock.now += DELAY_S
    assert measuring.step() == "sacct"
    assert measuring.asked == 2
    assert "GPU Time: 00:04:52 / 00:30:00 (16%)" in measuring.exp.blocks("COMPUTE_METRICS")[0]


def test_a_report_that_says_running_or_zeros_is_not_accepted(measuring: Measuring) -> None:
    measuring.exp.slurm.measure(ended("11", "RUNNING"))
    assert measuring.step() is None
    measuring.clock.now += DELAY_S
    assert measuring.step() == "sacct"


@pytest.mark.parametrize("how", ["broken", "absent"])
def test_a_seff_that_cannot_run_here_is_left_out_at_once(measuring: Measuring, how: str) -> None:
    if how == "absent":
        measuring.exp.slurm.remove("seff")
    else:
        measuring.exp.slurm.fail(
            "seff", "Can't locate Slurmdb.pm in @INC (you may need to install the Slurmdb module)", rc=2
        )
    assert measuring.step() == "sacct"
    assert measuring.asked <= 1


def test_without_an_accounting_record_the_jobs_report_is_used_after_a_wait(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.slurm.remove("seff")
    exp.slurm.show([ended("11", queued=True, accounted=False)])
    measuring = Measuring(exp)
    assert measuring.step() is None
    assert measuring.waits_s == ACCOUNTING_PATIENCE_S
    measuring.clock.now += ACCOUNTING_PATIENCE_S
    assert measuring.step() == "self"


def test_after_both_tries_seff_is_not_asked_again_at_every_step(tmp_path: Path) -> None:
    """While accounting lags there are no figures: the next try is at the end of the waiting time."""
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.slurm.show([ended("11", queued=True, accounted=False)])
    measuring = Measuring(exp)
    measuring.step()
    measuring.clock.now += DELAY_S
    assert measuring.step() is None
    assert measuring.waits_s == ACCOUNTING_PATIENCE_S - DELAY_S


def test_at_the_end_figures_are_not_waited_for(measuring: Measuring) -> None:
    assert measuring.step(final=True) == "sacct"


def test_earlier_attempts_are_measured_by_accounting(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    first = ended("11", "NODE_FAIL")
    second = ended("11", submitted=1_700_001_000, started=1_700_001_060, ended=1_700_001_352)
    exp.slurm.answer("sacct", first.account_rows() + second.account_rows())
    exp.slurm.measure(second)
    measuring = Measuring(exp)
    while measuring.waits_s is not None:
        measuring.step()
    assert measuring.asked == 1
    assert len(exp.blocks("COMPUTE_METRICS")) == 2
    figures = [attempt["figures"]["source"] for attempt in exp.state()["evals"]["r1/a"]["jobs"][0]["attempts"]]
    assert figures == ["sacct", "seff"]


def test_a_step_ends_at_its_time_limit_so_that_no_poll_is_delayed(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(**{f"r1_e{n}": str(n) for n in range(10, 20)})
    exp.slurm.show([ended(str(n)) for n in range(10, 20)])
    exp.observer().observe_once(at_least_s=0)
    exp.slurm.before("seff", "sleep 0.3\n")
    measurer = exp.measurer()
    state = exp.observer().record()
    began = time.time()
    measurer.step(state, unmeasured(state), clock=time.time, at_most_s=0.5)
    assert time.time() - began < 1.5
    assert len(exp.slurm.calls("seff")) < 5


def test_the_state_has_the_figures_with_their_source(measuring: Measuring) -> None:
    measuring.exp.slurm.measure(ended("11"))
    measuring.step()
    figures = json.loads((measuring.exp.ours / "state.json").read_text())["evals"]["r1/a"]["jobs"][0]["attempts"][0][
        "figures"
    ]
    assert figures["source"] == "seff"
    assert figures["cpu_efficiency_pct"] == 12.5


@pytest.mark.survives("F14")
def test_a_seff_that_hangs_repeatedly_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of 500 evals would cost the whole time-out, twice: more than the completion job's time limit."""
    monkeypatch.setattr(client, "SEFF_TIMEOUT_S", 0.2)
    exp = Exp(tmp_path)
    ids = [str(n) for n in range(10, 30)]
    exp.register(**{f"r1_e{n}": n for n in ids})
    exp.slurm.show([ended(n) for n in ids])
    exp.slurm.before("seff", "sleep 60\n")
    exp.observe_to_the_end()
    assert len(exp.slurm.calls("seff")) <= 2
    measured = [ev["jobs"][0]["attempts"][0]["figures"]["source"] for ev in exp.state()["evals"].values()]
    assert measured == ["sacct"] * len(ids)


def test_no_portion_starts_after_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_module, "_PORTION_S", 0.1)
    exp = Exp(tmp_path)
    exp.register(r1_a="11", r1_b="12")
    jobs = [ended("11"), ended("12")]
    exp.slurm.show(jobs)
    for job in jobs:
        exp.slurm.measure(job)
    exp.slurm.before("seff", "sleep 0.5\n")
    observer = exp.observer()
    state = observer.observe_once(at_least_s=0).state
    measure(observer, exp.measurer(), state, deadline=time.monotonic() + 0.3)
    assert len(exp.slurm.calls("seff")) == 1


def test_a_second_pass_without_time_for_all_starts_with_the_longest_waiting(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(a="11", b="12", c="13")
    exp.slurm.show([ended("11"), ended("12"), ended("13")])
    for job_id in ("11", "12", "13"):
        name = {"11": "a", "12": "b", "13": "c"}[job_id]
        record_script(exp.experiment, f"{int(job_id):016x}", str(exp.root / f"{name}.slurm"), "inspect eval a.py\n")
    exp.observe_to_the_end()
    observer = exp.observer()
    state, looked_at = observer.record(), []
    for _ in range(4):
        before = {name: _looked_again_at(state, name) for name in "abc"}
        state = look_again(observer, exp.measurer(), state, deadline=time.monotonic())
        looked_at.append([name for name in "abc" if _looked_again_at(state, name) > before[name]])
    assert looked_at == [["a"], ["b"], ["c"], ["a"]]
    state = look_again(observer, exp.measurer(), state, deadline=time.monotonic() + 60)
    assert min(_looked_again_at(state, name) for name in "abc") > before["a"]


def _looked_again_at(state: ExperimentState, name: str) -> float:
    attempt = state.evals[name].latest
    assert attempt is not None
    assert attempt.evidence is not None
    return attempt.evidence.looked_again_at
