"""Computes what evals cost: GPU-hours, CPU-hours, energy and money. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from msgspec.structs import replace

from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.settings import Settings
from evalmon_agent.summary.records import NO_COST, AttemptSummary, Cost, EvalSummary, ExperimentCost
from evalmon_agent.tracking.records import Attempt
from evalmon_agent.tracking.verdict import UNSUCCESSFUL
from evalmon_agent.words.states import State

FIGURE_WORDS = {"gpu_hours": "GPU-hours", "cpu_hours": "CPU-hours", "energy_j": "energy", "money": "money"}
KWH_J = 3.6e6

Prices: TypeAlias = "float | Mapping[str, float] | None"
"""Of a GPU-hour, or of one by type (`gpu_hour_price`)."""

_NO_PRICE = Cost(gpu_hours=0.0, cpu_hours=0.0, energy_j=0.0)
_LIVE = frozenset({State.RUNNING, State.SUSPENDED})
_DIGITS = 9


def gpus_of(attempt: Attempt, *, are_accounted: bool) -> dict[str, int] | None:
    """The GPUs that the attempt had, by type: by accounting, else those that its sampler saw; None: unknown.

    `are_accounted`: the cluster accounts for GPUs, so that a job without any in accounting had none.
    """
    if attempt.gpus:
        return attempt.gpus
    sampled = attempt.evidence.gpu if attempt.evidence is not None else None
    if sampled is not None and sampled.count:
        return {"gpu": sampled.count}
    had_none = attempt.report is not None and attempt.report.has_no_gpu
    return {} if had_none or (are_accounted and attempt.gpus is not None) else None


def hours_of(attempt: Attempt, state: State | None, *, now: float) -> float | None:
    """How long an attempt in this state ran, or has run so far; None: unknown."""
    if attempt.ran_for_s is not None:
        return attempt.ran_for_s / 3600
    if not attempt.has_run:
        return None if state is State.LOST else 0.0
    if state not in _LIVE or attempt.started_at is None:
        return None
    return max(now - attempt.started_at, 0.0) / 3600


def cost_of_attempt(attempt: Attempt, gpus: Mapping[str, int] | None, *, hours: float | None, prices: Prices) -> Cost:
    """What one attempt took so far; nothing if it did not run."""
    if hours == 0:
        return NO_COST
    sampled = attempt.evidence.gpu if attempt.evidence is not None else None
    energy_j = sampled.energy_j if sampled is not None and sampled.energy_j is not None else attempt.energy_j
    if gpus is not None and "shard" in gpus:
        gpus = None  # parts of GPUs are no number of GPUs
    price = None if gpus is None else _price(gpus, prices)
    return Cost(
        gpu_hours=None if hours is None or gpus is None else round(hours * sum(gpus.values()), _DIGITS),
        cpu_hours=None if hours is None or attempt.cpus is None else round(hours * attempt.cpus, _DIGITS),
        energy_j=energy_j,
        money=None if hours is None or price is None else round(hours * price, _DIGITS),
    )


def cost_of_eval(attempts: Sequence[Cost], results: Sequence[EvalResult], settings: Settings) -> Cost:
    """All attempts together; by sample: of those that its results say were completed."""
    if not results and all(cost is NO_COST for cost in attempts):
        return NO_COST if settings.gpu_hour_price is not None else _NO_PRICE
    whole = together(attempts)
    money = None if settings.gpu_hour_price is None else whole.money
    samples = sum(result.samples_completed or 0 for result in results)
    return replace(
        whole,
        money=money,
        gpu_hours_per_sample=_per(whole.gpu_hours, samples),
        money_per_sample=_per(money, samples),
    )


def together(costs: Sequence[Cost]) -> Cost:
    """Their sums; a figure that is unknown for one of them is None."""
    return Cost(**{name: _sum(getattr(cost, name) for cost in costs) for name in FIGURE_WORDS})


def cost_of_experiment(evals: Sequence[EvalSummary], settings: Settings) -> ExperimentCost:
    """The sums of what is known, and how many evals they leave out."""
    parts = {name: [getattr(ev.cost, name) for ev in evals] for name in FIGURE_WORDS}
    if settings.gpu_hour_price is None:
        parts["money"] = []
    totals = {name: sum_of_known(values) for name, values in parts.items()}
    unknown = {name: values.count(None) for name, values in parts.items() if totals[name] is not None}
    failed = [attempt.gpu_hours for ev in evals for attempt in _attempts_without_result(ev)]
    return ExperimentCost(
        **totals,
        gpu_hours_of_failures=0.0 if totals["gpu_hours"] is not None and not failed else sum_of_known(failed),
        currency=settings.currency if settings.gpu_hour_price is not None else None,
        evals_left_out={name: number for name, number in unknown.items() if number},
        unpriced=_unpriced(evals, settings.gpu_hour_price),
    )


def sum_of_known(values: Iterable[float | None]) -> float | None:
    """Without the unknown ones; None if all are."""
    known = [value for value in values if value is not None]
    return round(sum(known), _DIGITS) if known else None


def _attempts_without_result(ev: EvalSummary) -> Sequence[AttemptSummary]:
    """The earlier attempts, and the last one if it failed, also of an eval that waits to run again or was dropped."""
    last = ev.attempts[-1].verdict if ev.attempts else None
    return ev.attempts if ev.verdict in UNSUCCESSFUL or last in UNSUCCESSFUL else ev.attempts[:-1]


def _price(gpus: Mapping[str, int], prices: Prices) -> float | None:
    """What an hour of these GPUs costs; None if a type has no price."""
    if not isinstance(prices, Mapping):
        return None if prices is None else prices * sum(gpus.values())
    by_type = {name.lower(): price for name, price in prices.items()}
    return _sum(None if (price := by_type.get(name.lower())) is None else price * n for name, n in gpus.items())


def _unpriced(evals: Iterable[EvalSummary], prices: Prices) -> list[str]:
    if not isinstance(prices, Mapping):
        return []
    types = {name for ev in evals for attempt in ev.attempts if attempt.gpu_hours for name in attempt.gpus or {}}
    return sorted(name for name in types if _price({name: 1}, prices) is None)


def _sum(values: Iterable[float | None]) -> float | None:
    """None if one of them is."""
    costs = list(values)
    return None if None in costs else sum_of_known(costs) or 0.0


def _per(value: float | None, samples: int) -> float | None:
    return None if value is None or not samples else round(value / samples, _DIGITS)
