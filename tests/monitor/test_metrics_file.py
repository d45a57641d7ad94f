"""Tests evalmon.prom beside the summary: new figures when the state changed, and the time of each poll."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from evalmon_agent.monitor.finish import PolledMetrics
from experiments import Exp, ended, running


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    found.register(r1_a="11", r1_b="12")
    return found


def value(exp: Exp, name: str, **labels: str) -> float:
    families = text_string_to_metric_families((exp.ours / "evalmon.prom").read_text())
    [sample] = [
        sample
        for family in families
        for sample in family.samples
        if sample.name == name and sample.labels == {"experiment": str(exp.root), **labels}
    ]
    return sample.value


def test_evalmon_prom_is_written_with_the_summary(exp: Exp) -> None:
    exp.slurm.show([ended("11"), ended("12", "FAILED", exit_code="3:0")])
    exp.observe_to_the_end()
    assert value(exp, "evalmon_complete") == 1
    assert (value(exp, "evalmon_evals", verdict="failed"), value(exp, "evalmon_evals", verdict="active")) == (1, 0)
    assert (exp.ours / "evalmon.prom").stat().st_mode & 0o777 == 0o600


def test_a_poll_updates_its_time_and_after_a_change_the_figures(exp: Exp) -> None:
    exp.slurm.show([running("11"), running("12")])
    observer, metrics = exp.observer(), PolledMetrics()
    for number in (1, 2, 3):
        if number == 3:
            exp.slurm.show([running("11"), ended("12")])
        metrics.write(observer, observer.observe_once(at_least_s=0).state)
        assert value(exp, "evalmon_eval_states", state="RUNNING") == (2 if number < 3 else 1)
        beat = exp.ours / "observer.json"
        assert f"{value(exp, 'evalmon_last_poll_timestamp_seconds')!r}" in beat.read_text()
