"""Tests costs: allocated resources times elapsed time over all attempts; unknown is null, and partial totals say so."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from evalmon_agent.figures import Figures
from evalmon_agent.settings import Settings
from evalmon_agent.summary.build import build
from evalmon_agent.summary.records import Cost, ExperimentCost, Summary
from evalmon_agent.tracking.records import Evidence, Measurement, Waiting
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State
from summary.summarised import GPU, LOG, left, measured
from tracking.rows import JOB, NAME, T, Told, account, accounts, queue, registered, report, reported, row

HOUR = 3600


def ended(hours: float = 1.0, *, state: State = State.COMPLETED, **more: Any) -> Told:
    """One eval with this elapsed time, 4 CPUs and the given fields."""
    end = 5 + hours * HOUR
    found = Told(Facts(registrations=[registered()]))
    found.take(queue(end, row(state, start=5, end=end)), accounts(end, account(state, start=5, end=end, **more)))
    return found


def summary(found: Told, *, now: float = 100_000.0, **settings: Any) -> Summary:
    return build(found.state, now=T + now, settings=Settings(**settings))


def cost(found: Told, *, now: float = 100_000.0, **settings: Any) -> Cost:
    [ev] = summary(found, now=now, **settings).evals
    return ev.cost


def total(found: Told, **settings: Any) -> ExperimentCost:
    return summary(found, **settings).cost


def test_hours_are_allocated_resources_times_elapsed_time() -> None:
    found = cost(ended(1.5, gpus={"a100": 2}))
    assert (3.0, 6.0, None) == (found.gpu_hours, found.cpu_hours, found.money)


@pytest.mark.parametrize(
    ("gpus", "price", "expected"),
    [
        ({"a100": 2}, 1.5, 6.0),
        ({"a100": 2}, {"a100": 1.5}, 6.0),
        ({"A100": 2}, {"a100": 1.5}, 6.0),
        ({"a100": 1, "h100": 2}, {"a100": 1, "h100": 3}, 14.0),
        ({"1g.10gb": 1}, {"1g.10gb": 0.25}, 0.5),
        ({"gpu": 2}, {"gpu": 1}, 4.0),
        ({"gpu": 2}, {"a100": 1}, None),
        ({"a100": 1, "h100": 2}, {"a100": 1}, None),
        ({"a100": 2}, 0, 0.0),
    ],
)
def test_money_uses_one_price_or_one_per_gpu_type(
    gpus: dict[str, int], price: float | dict[str, float], expected: float | None
) -> None:
    assert expected == cost(ended(2.0, gpus=gpus), gpu_hour_price=price).money


def test_a_type_without_a_price_is_named_once() -> None:
    shown = total(ended(gpus={"h100": 2, "gpu": 1}), gpu_hour_price={"a100": 1.0}, currency="CHF")
    assert (None, "CHF", ["gpu", "h100"]) == (shown.money, shown.currency, shown.unpriced)
    priced = total(ended(gpus={"h100": 2}), gpu_hour_price={"h100": 1.0})
    assert (2.0, "EUR", []) == (priced.money, priced.currency, priced.unpriced)
    assert None is total(ended()).currency


def test_all_attempts_count_for_the_cost_per_sample() -> None:
    found = ended(2.0, gpus={"gpu": 1})
    found.take(measured(evidence=left(LOG)))
    shown = cost(found, gpu_hour_price=5)
    assert (0.2, 1.0) == (shown.gpu_hours_per_sample, shown.money_per_sample)
    nothing = ended(2.0)
    nothing.take(measured(evidence=left(replace(LOG, samples_completed=0))))
    assert None is cost(nothing).gpu_hours_per_sample


def requeued(*, first: State = State.REQUEUED, last: State = State.COMPLETED) -> Told:
    found = Told(Facts(registrations=[registered()]))
    earlier = account(first, start=5, end=5 + HOUR, gpus={"gpu": 2})
    later = account(last, submit=HOUR + 10, start=HOUR + 200, end=3 * HOUR + 200, gpus={"gpu": 2})
    found.take(queue(4 * HOUR), accounts(4 * HOUR, earlier, later))
    return found


def test_a_requeued_attempt_has_costs() -> None:
    shown = summary(requeued())
    assert [2.0, 4.0] == [attempt.gpu_hours for attempt in shown.evals[0].attempts]
    assert (6.0, 12.0) == (shown.evals[0].cost.gpu_hours, shown.evals[0].cost.cpu_hours)
    assert (6.0, 2.0) == (shown.cost.gpu_hours, shown.cost.gpu_hours_of_failures)


def test_all_costs_of_a_failed_eval_count_for_failures_and_its_causes() -> None:
    shown = summary(requeued(last=State.TIMEOUT), gpu_hour_price=2)
    assert (6.0, 6.0) == (shown.cost.gpu_hours, shown.cost.gpu_hours_of_failures)
    assert [("time-limit", 6.0, 12.0)] == [(c.cause, c.gpu_hours, c.money) for c in shown.causes]


def test_a_failed_evals_costs_count_for_failures_while_a_retry_waits_and_after_a_drop() -> None:
    waiting, given_up = requeued(last=State.TIMEOUT), requeued(last=State.TIMEOUT)
    waiting.state.waiting[NAME] = Waiting(since=T, script="/x")
    given_up.state.dropped[NAME] = T
    costs = [summary(found).cost for found in (waiting, given_up)]
    assert [(6.0, 6.0)] * 2 == [(cost.gpu_hours, cost.gpu_hours_of_failures) for cost in costs]


def test_a_retried_job_is_a_further_attempt() -> None:
    found = ended(1.0, state=State.FAILED, gpus={"gpu": 1})
    found.take(Facts(registrations=[registered(job_id="200", at=5000, token="9c")]))
    again = account(State.COMPLETED, job_id="200", submit=5001, start=5005, end=5005 + HOUR, gpus={"gpu": 1})
    found.take(queue(9000), accounts(9000, again, asked=("200",)))
    shown = summary(found)
    assert (2.0, 1.0) == (shown.cost.gpu_hours, shown.cost.gpu_hours_of_failures)


def test_the_energy_is_measured_by_the_sampler_or_else_by_slurm() -> None:
    assert 700.0 == cost(ended(energy_j=700.0)).energy_j
    assert None is cost(ended()).energy_j
    found = ended(energy_j=700.0)
    found.take(measured(evidence=left(gpu=GPU)))
    assert 146_146.0 == cost(found).energy_j


def test_a_job_that_never_ran_costs_nothing() -> None:
    zero = (0.0, 0.0, 0.0)
    for found in (
        Told(Facts(registrations=[registered()])),
        Told(Facts(registrations=[registered()]), queue(10, row(State.PENDING))),
        Told(Facts(registrations=[registered()]), queue(60, row(State.CANCELLED, end=55))),
    ):
        shown = cost(found)
        assert zero == (shown.gpu_hours, shown.cpu_hours, shown.energy_j)


def test_the_costs_of_a_running_job_increase() -> None:
    found = Told(Facts(registrations=[registered()]), queue(10, row(State.RUNNING, start=5)))
    found.take(accounts(10, account(State.RUNNING, start=5, elapsed_s=None, gpus={"gpu": 2})))
    assert [2.0, 4.0] == [cost(found, now=5 + hours * HOUR).gpu_hours for hours in (1, 2)]


def test_the_costs_of_a_lost_job_are_unknown_and_not_zero() -> None:
    found = Told(Facts(registrations=[registered()]), queue(10), accounts(10))
    found.take(queue(4000), accounts(4000), queue(8000), accounts(8000))
    [ev] = summary(found).evals
    assert State.LOST is ev.state
    assert Cost() == replace(ev.cost, gpu_hours_per_sample=None)


def test_on_a_cluster_that_does_not_account_for_gpus_they_are_unknown() -> None:
    assert (None, 4.0) == (cost(ended(gpus={})).gpu_hours, cost(ended(gpus={})).cpu_hours)
    assert None is cost(ended(gpus=None)).gpu_hours


def test_sampled_gpus_count_where_slurm_does_not_account_for_them() -> None:
    found = ended(gpus={})
    found.take(measured(evidence=left(gpu=GPU)))
    assert 2.0 == cost(found).gpu_hours


def test_a_job_that_reported_no_gpu_had_none() -> None:
    found = ended(gpus={})
    found.take(report(reported(start=6, end=5 + HOUR, exit_code=0, has_no_gpu=True)))
    assert 0.0 == cost(found).gpu_hours


def test_a_job_without_gpus_had_none_if_other_jobs_gpus_are_accounted_for() -> None:
    found = ended(gpus={"gpu": 1})
    found.take(Facts(registrations=[registered("r/cpu/epoch0", "124", token="t2")]))
    found.take(accounts(9000, account(State.COMPLETED, job_id="124", start=5, end=65, gpus={}), asked=("124",)))
    assert [1.0, 0.0] == [ev.cost.gpu_hours for ev in summary(found).evals]


def test_shares_of_gpus_are_not_counted_as_gpus() -> None:
    assert None is cost(ended(gpus={"shard": 4}), gpu_hour_price=1).gpu_hours


def test_a_total_says_how_many_evals_are_missing() -> None:
    found = ended(gpus={"gpu": 1})
    found.take(Facts(registrations=[registered("r/unknown/epoch0", "124", token="t2")]))
    lost = account(State.COMPLETED, job_id="124", start=5, end=65, gpus=None, cpus=None)
    found.take(accounts(9000, lost, asked=("124",)))
    shown = total(found, gpu_hour_price=3.0)
    assert (1.0, 4.0, 3.0, None) == (shown.gpu_hours, shown.cpu_hours, shown.money, shown.energy_j)
    assert {"gpu_hours": 1, "cpu_hours": 1, "money": 1} == shown.evals_left_out
    assert {} == total(ended(gpus={"gpu": 1})).evals_left_out


def test_without_evals_every_total_is_unknown() -> None:
    assert ExperimentCost() == total(Told())


def test_the_jobs_own_report_gives_its_time_if_slurm_has_none() -> None:
    found = Told(Facts(registrations=[registered()]), report(reported(start=5, end=5 + HOUR, exit_code=0)))
    found.take(queue(9000), accounts(9000, disabled=True))
    figures = Figures(float(HOUR), None, source="self")
    found.take(Facts(measurements=[Measurement((NAME, JobId(JOB), None, 0), figures, Evidence(gpu=GPU))]))
    assert (2.0, None) == (cost(found).gpu_hours, cost(found).cpu_hours)
