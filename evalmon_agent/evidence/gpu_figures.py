"""What did the GPUs do over a whole job? The figures of summary.json's `gpu`. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TypeVar

from evalmon_agent.evidence import gpu_extras, gpu_use
from evalmon_agent.evidence.gpu_csv import GpuRow, GpuTable
from evalmon_agent.evidence.gpu_power import power_and_energy
from evalmon_agent.evidence.gpu_ticks import complete_ticks, group, memory_sums_mib
from evalmon_agent.evidence.gpu_use import Span
from evalmon_agent.words.csv_columns import GpuColumn

_BYTES_PER_MIB = 1024 * 1024
_LOW_PCT = 5

_Number = TypeVar("_Number", int, float)
_UNKNOWN_SPAN = Span()


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """Figures over all GPUs of a job; None where no row had a value.

    Utilization is a row's mean since the row before where the file has it, else the instant (gpu_extras.busy_pct).
    """

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
    """What all GPUs together drew."""
    energy_j: float | None
    """From the energy counter, else from power and time; None where too much of the time is missing."""
    samples_expected: int | None = None
    """How many moments it should have been, by the attempt's length and the interval; None if one is not known."""
    below_5_pct_fraction: float | None = None
    """Of the rows with a utilization, those below 5 %; from 0 to 1."""
    longest_idle_s: float | None = None
    """The longest time in which no GPU (of one node) was in use."""
    first_use_s: float | None = None
    """From the attempt's start to the first look that found one in use; None if none did."""
    unused_count: int | None = None
    """GPUs that no look found in use."""
    near_power_cap_fraction: float | None = None
    """Of the rows that tell: at 95 % of the power limit, or held back by it."""
    throttled_fraction: float | None = None
    """Of the rows that tell: slowed down by heat, the power supply or the board."""
    sm_activity_mean_pct: float | None = None
    tensor_activity_mean_pct: float | None = None
    """GPM's, on Hopper and later."""


def figures(*tables: GpuTable, span: Span = _UNKNOWN_SPAN) -> GpuFigures | None:
    """The figures of one attempt: a table per node, only the attempt's rows in it; None if there is no row.

    Over several nodes counts, memory, power and energy are added up, for memory the peak of each node.
    """
    everything = [table.rows for table in tables if table.rows]
    if not everything:
        return None
    nodes = [_of_node(rows, span) for rows in everything]
    rows = [row for of_node in everything for row in of_node]
    busy = sorted(_known(rows, gpu_extras.busy_pct))
    return GpuFigures(
        count=_sum([node.count for node in nodes]),
        samples=max(node.samples for node in nodes),
        utilization_mean_pct=_mean(busy),
        utilization_p95_pct=busy[math.ceil(0.95 * len(busy)) - 1] if busy else None,
        utilization_max_pct=busy[-1] if busy else None,
        idle_fraction=_mean([pct == 0 for pct in busy]),
        memory_peak_bytes=_sum([node.memory_peak_bytes for node in nodes]),
        memory_total_bytes=_sum([node.memory_total_bytes for node in nodes]),
        power_mean_w=_sum([node.power_mean_w for node in nodes]),
        energy_j=_sum([node.energy_j for node in nodes]),
        samples_expected=gpu_use.samples_expected(span),
        below_5_pct_fraction=_mean([pct < _LOW_PCT for pct in busy]),
        longest_idle_s=max((s for node in nodes if (s := node.longest_idle_s) is not None), default=None),
        first_use_s=min((s for node in nodes if (s := node.first_use_s) is not None), default=None),
        unused_count=_sum([node.unused for node in nodes]),
        near_power_cap_fraction=_mean(_known(rows, gpu_extras.is_near_power_cap)),
        throttled_fraction=_mean(_known(rows, gpu_extras.is_throttled)),
        sm_activity_mean_pct=_mean(_extras(rows, GpuColumn.SM_ACTIVITY_PCT)),
        tensor_activity_mean_pct=_mean(_extras(rows, GpuColumn.TENSOR_ACTIVITY_PCT)),
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
    longest_idle_s: float | None
    first_use_s: float | None
    unused: int | None


def _of_node(rows: Sequence[GpuRow], span: Span) -> _Node:
    ticks = list(complete_ticks(rows))
    memory_mib = [sums for tick in ticks if (sums := memory_sums_mib(tick))]
    power_w, energy_j = power_and_energy(rows)
    return _Node(
        count=max((len(tick) for tick in ticks), default=None),
        samples=sum(1 for _ in group(rows)),
        memory_peak_bytes=max(used for used, _ in memory_mib) * _BYTES_PER_MIB if memory_mib else None,
        memory_total_bytes=max(total for _, total in memory_mib) * _BYTES_PER_MIB if memory_mib else None,
        power_mean_w=power_w,
        energy_j=energy_j,
        longest_idle_s=gpu_use.longest_idle_s(rows),
        first_use_s=gpu_use.first_use_s(rows, started_at=span.started_at),
        unused=gpu_use.unused(rows),
    )


def _known(rows: Sequence[GpuRow], value_of: Callable[[GpuRow], float | None]) -> list[float]:
    return [value for row in rows if (value := value_of(row)) is not None]


def _extras(rows: Sequence[GpuRow], column: GpuColumn) -> list[float]:
    return _known(rows, lambda row: row.number(column))


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _sum(values: Sequence[_Number | None]) -> _Number | None:
    """The sum; None if there is nothing to add, or a part of it is unknown."""
    known = [value for value in values if value is not None]
    return sum(known) if known and len(known) == len(values) else None
