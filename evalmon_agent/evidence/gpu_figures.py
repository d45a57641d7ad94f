"""What did the GPUs do over a whole job? The figures of summary.json's `gpu`. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median
from typing import TypeVar

from evalmon_agent.evidence.gpu_csv import GpuRow, GpuTable
from evalmon_agent.evidence.gpu_ticks import complete_ticks, elapsed_s, group, memory_sums_mib

_BYTES_PER_MIB = 1024 * 1024
# Between two ticks that are further apart nobody knows the power.
_MAX_GAP_IN_INTERVALS = 3.0
_MIN_COVERED_FRACTION = 0.9

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """Figures over all GPUs of a job; None where no row had a value."""

    count: int | None
    """GPUs that were sampled together."""
    samples: int
    """Moments at which they were looked at."""
    utilization_mean_pct: float | None
    """Over all rows: each GPU and each sample weighs the same."""
    utilization_p95_pct: float | None
    """95 % of the rows are at or below this (nearest rank)."""
    utilization_max_pct: float | None
    idle_fraction: float | None
    """Of the rows with a utilization, those where it is 0 %; from 0 to 1."""
    memory_peak_bytes: int | None
    """The most that all GPUs together used at one moment."""
    memory_total_bytes: int | None
    """What all GPUs together have."""
    power_mean_w: float | None
    """What all GPUs together drew, averaged over the ticks."""
    energy_j: float | None
    """Power over time, where ticks lie at most three intervals apart; None if that is under 90 % of it."""


def figures(*tables: GpuTable) -> GpuFigures | None:
    """The figures of one attempt: a table per node, only the attempt's rows in it; None if there is no row.

    Over several nodes counts, memory, power and energy are added up, for memory the peak of each node.
    """
    nodes = [_of_node(table.rows) for table in tables if table.rows]
    if not nodes:
        return None
    utilizations = sorted(
        row.utilization_pct for table in tables for row in table.rows if row.utilization_pct is not None
    )
    return GpuFigures(
        count=_sum([node.count for node in nodes]),
        samples=max(node.samples for node in nodes),
        utilization_mean_pct=fmean(utilizations) if utilizations else None,
        utilization_p95_pct=utilizations[math.ceil(0.95 * len(utilizations)) - 1] if utilizations else None,
        utilization_max_pct=utilizations[-1] if utilizations else None,
        idle_fraction=utilizations.count(0) / len(utilizations) if utilizations else None,
        memory_peak_bytes=_sum([node.memory_peak_bytes for node in nodes]),
        memory_total_bytes=_sum([node.memory_total_bytes for node in nodes]),
        power_mean_w=_sum([node.power_mean_w for node in nodes]),
        energy_j=_sum([node.energy_j for node in nodes]),
    )


def between(table: GpuTable, *, start_unix_s: float, end_unix_s: float) -> GpuTable:
    """The rows that one attempt wrote: a requeued job appends to the same file. Rows without a stamp stay."""
    rows = (
        row for row in table.rows if row.timestamp_unix_s is None or start_unix_s <= row.timestamp_unix_s <= end_unix_s
    )
    return GpuTable(rows=tuple(rows), bad_lines=table.bad_lines)


@dataclass(frozen=True, slots=True)
class _Node:
    count: int | None
    samples: int
    memory_peak_bytes: int | None
    memory_total_bytes: int | None
    power_mean_w: float | None
    energy_j: float | None


def _of_node(rows: Sequence[GpuRow]) -> _Node:
    ticks = list(complete_ticks(rows))
    memory_mib = [sums for tick in ticks if (sums := memory_sums_mib(tick))]
    powers = [(tick[0], power_w) for tick in ticks if (power_w := _power_w(tick)) is not None]
    return _Node(
        count=max((len(tick) for tick in ticks), default=None),
        samples=sum(1 for _ in group(rows)),
        memory_peak_bytes=max(used for used, _ in memory_mib) * _BYTES_PER_MIB if memory_mib else None,
        memory_total_bytes=max(total for _, total in memory_mib) * _BYTES_PER_MIB if memory_mib else None,
        power_mean_w=fmean(power_w for _, power_w in powers) if powers else None,
        energy_j=_energy_j(powers),
    )


def _power_w(tick: Sequence[GpuRow]) -> float | None:
    if any(row.uuid is not None and row.uuid.startswith("MIG-") for row in tick):
        return None  # the whole GPU's, which others use too, and the same in each of its slices
    return _sum([row.power_w for row in tick])


def _energy_j(powers: Sequence[tuple[GpuRow, float]]) -> float | None:
    """Trapezoids between ticks; the interval is the median of the gaps."""
    steps = [(elapsed_s(a, b), (power_a + power_b) / 2) for (a, power_a), (b, power_b) in pairwise(powers)]
    forward = [gap_s for gap_s, _ in steps if gap_s > 0]
    if not forward:
        return None
    longest_s = _MAX_GAP_IN_INTERVALS * median(forward)
    sane = [(gap_s, power_w) for gap_s, power_w in steps if 0 < gap_s <= longest_s]
    covered_s = sum(gap_s for gap_s, _ in sane)
    if covered_s < _MIN_COVERED_FRACTION * sum(abs(gap_s) for gap_s, _ in steps):
        return None
    return sum(gap_s * power_w for gap_s, power_w in sane)


def _sum(values: Sequence[_Number | None]) -> _Number | None:
    """The sum; None if there is nothing to add, or a part of it is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
