"""Tests that evalmon.prom is read by the official parsers, escaped, and without unknown figures."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import Metric
from prometheus_client import parser as prometheus
from prometheus_client.openmetrics import parser as openmetrics

from evalmon_agent.summary.openmetrics import figures, with_poll
from evalmon_agent.summary.records import ExperimentCost, Summary
from evalmon_agent.words.states import State
from summary.summarised import mixed, summary_of

AT = 1771597692.659
COST = ExperimentCost(
    gpu_hours=12.5, gpu_hours_of_failures=0.25, cpu_hours=100.0, energy_j=3.6e6, money=31.25, currency="EUR"
)


def text(summary: Summary, polled_at: float | None = AT) -> str:
    return with_poll(figures(summary), summary.experiment, polled_at)


def priced(**values: object) -> Summary:
    return msgspec.structs.replace(summary_of(mixed()), cost=COST, **values)


def values(families: list[Metric]) -> dict[tuple[str, ...], float]:
    return {
        (sample.name, *(value for name, value in sample.labels.items() if name != "experiment")): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_official_parsers_read_the_summarys_figures() -> None:
    summary = priced()
    of_openmetrics = list(openmetrics.text_string_to_metric_families(text(summary)))
    of_prometheus = list(prometheus.text_string_to_metric_families(text(summary)))
    expected: dict[tuple[str, ...], float] = {
        **{("evalmon_evals", verdict): number for verdict, number in summary.verdicts.items()},
        **{("evalmon_eval_states", str(state)): summary.counts.get(str(state), 0) for state in State},
        ("evalmon_complete",): summary.complete,
        ("evalmon_gpu_hours",): 12.5,
        ("evalmon_failures_gpu_hours",): 0.25,
        ("evalmon_cpu_hours",): 100.0,
        ("evalmon_energy_joules",): 3.6e6,
        ("evalmon_money", "EUR"): 31.25,
        ("evalmon_last_poll_timestamp_seconds",): AT,
    }
    assert expected == values(of_openmetrics) == values(of_prometheus)
    assert {family.type for family in of_openmetrics} == {"gauge"}
    assert all(family.documentation and family.name.endswith(family.unit) for family in of_openmetrics)
    assert {"hours", "joules", "seconds"} <= {family.unit for family in of_openmetrics}


def test_unknown_figures_are_left_out() -> None:
    families = openmetrics.text_string_to_metric_families(
        text(msgspec.structs.replace(priced(), cost=ExperimentCost()), polled_at=None)
    )
    assert {family.name for family in families} == {"evalmon_evals", "evalmon_eval_states", "evalmon_complete"}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=30))
def test_any_path_of_an_experiment_is_one_label(path: str) -> None:
    """A line break, a quote or a backslash adds no line and does not end the label."""
    whole = text(priced(experiment=path))
    for families in (openmetrics.text_string_to_metric_families(whole),):
        assert {sample.labels["experiment"] for family in families for sample in family.samples} == {path}


@pytest.mark.parametrize("path", ['/a"} 9\nevil 1', "/a\\n\\", "/ä ö"])
def test_prometheus_reads_hostile_paths(path: str) -> None:
    families = list(prometheus.text_string_to_metric_families(text(priced(experiment=path))))
    assert {sample.labels["experiment"] for family in families for sample in family.samples} == {path}
    assert all(family.name.startswith("evalmon_") for family in families)
