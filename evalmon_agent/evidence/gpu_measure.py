"""Measures the figures of a job's GPUs (`gpu_figures`) from the rows of its CSVs. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, median_high
from typing import TypeVar

from evalmon_agent.evidence.gpu_csv import (
    GpuRow,
    GpuTable,
    busy_pct,
    is_instance,
    is_near_power_cap,
    is_throttled,
    mean_pct,
    memory_peak_mib,
)
from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.evidence.gpu_ticks import complete_ticks, elapsed_s, group, memory_sums_mib
from evalmon_agent.words.csv_columns import GpuColumn

_BYTES_PER_MIB = 1024 * 1024
_LOW_PCT = 5
# Between two ticks that are further apart the use is unknown.
_MAX_GAP_IN_INTERVALS = 3.0
_MIN_COVERED_FRACTION = 0.9
# The sampler takes a last look at the end if so much time has passed since the one before.
_LAST_AFTER_S = 1.0
_LONGEST_S = 10 * 365 * 86400.0

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class SampledSpan:
    """When an attempt ran, by its node's clock, and how often it was sampled; None: unknown."""

    started_at: float | None = None
    ended_at: float | None = None
    interval_s: float | None = None


_UNKNOWN_SPAN = SampledSpan()


def figures(*tables: GpuTable, span: SampledSpan = _UNKNOWN_SPAN) -> GpuFigures | None:
    """The figures of one attempt: a table per node, only the attempt's rows in it; None if there is no row.

    Over several nodes counts, memory, power and energy are added up, for memory the peak of each node.
    """
    node_rows = [table.rows for table in tables if table.rows]
    if not node_rows:
        return None
    nodes = [_of_node(rows, span) for rows in node_rows]
    rows = [row for one_node in node_rows for row in one_node]
    busy = sorted(_known(rows, busy_pct))
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
        samples_expected=samples_expected(span),
        below_5_pct_fraction=_mean([pct < _LOW_PCT for pct in busy]),
        longest_idle_s=max((s for node in nodes if (s := node.longest_idle_s) is not None), default=None),
        first_use_s=min((s for node in nodes if (s := node.first_use_s) is not None), default=None),
        unused_count=_sum([node.unused_count for node in nodes]),
        near_power_cap_fraction=_mean(_known(rows, is_near_power_cap)),
        throttled_fraction=_mean(_known(rows, is_throttled)),
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
    unused_count: int | None


def _of_node(rows: Sequence[GpuRow], span: SampledSpan) -> _Node:
    ticks = list(complete_ticks(rows))
    memory_mib = [sums for tick in ticks if (sums := memory_sums_mib(tick))]
    power_w, energy_j = power_and_energy(rows)
    return _Node(
        count=max((len(tick) for tick in ticks), default=None),
        samples=sum(1 for _ in group(rows)),
        memory_peak_bytes=max(map(_memory_peak_bytes, ticks), default=0) if memory_mib else None,
        memory_total_bytes=max(total for _, total in memory_mib) * _BYTES_PER_MIB if memory_mib else None,
        power_mean_w=power_w,
        energy_j=energy_j,
        longest_idle_s=longest_idle_s(rows),
        first_use_s=first_use_s(rows, started_at=span.started_at),
        unused_count=unused_count(rows),
    )


def _memory_peak_bytes(tick: Sequence[GpuRow]) -> int:
    """The figure for all GPUs together; GPUs without one are left out."""
    return int(sum(_known(tick, memory_peak_mib))) * _BYTES_PER_MIB


def _known(rows: Sequence[GpuRow], value_of: Callable[[GpuRow], float | None]) -> list[float]:
    return [value for row in rows if (value := value_of(row)) is not None]


def _extras(rows: Sequence[GpuRow], column: GpuColumn) -> list[float]:
    return _known(rows, lambda row: row.number(column))


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _sum(values: Sequence[_Number | None]) -> _Number | None:
    """The sum; None if there is nothing to add, or a part of it is unknown."""
    present = [value for value in values if value is not None]
    return sum(present) if present and len(present) == len(values) else None


def samples_expected(span: SampledSpan) -> int | None:
    """How many ticks the attempt should have: one at the start, one after each interval, one at the end."""
    if span.started_at is None or span.ended_at is None or span.interval_s is None or span.interval_s <= 0:
        return None
    length_s = span.ended_at - span.started_at
    if not 0 <= length_s <= _LONGEST_S:
        return None  # a clock that was set, or a report with nonsense in it
    intervals, rest_s = divmod(length_s, span.interval_s)
    return int(intervals) + 1 + (rest_s > _LAST_AFTER_S)


def longest_idle_s(rows: Sequence[GpuRow]) -> float | None:
    """The longest time in which no GPU of the node was in use; 0 if each look found one in use, None if unknown.

    A tick is idle if every GPU is known to be at 0 %. With window means it speaks for the time since the tick before,
    as an instant only for itself.
    """
    ticks = list(complete_ticks(rows))
    idle = [_is_idle(tick) for tick in ticks]
    if len(ticks) < 2 or all(state is None for state in idle):
        return None
    longest_s = stretch_s = 0.0
    gaps_s = [elapsed_s(before[0], tick[0]) for before, tick in pairwise(ticks)]
    limit_s = _MAX_GAP_IN_INTERVALS * median_high([gap_s for gap_s in gaps_s if gap_s > 0] or [0.0])
    for number, gap_s in enumerate(gaps_s, start=1):
        is_since_before = idle[number - 1] or all(mean_pct(row) is not None for row in ticks[number])
        if idle[number] and is_since_before and 0 <= gap_s <= limit_s:
            stretch_s += gap_s
            longest_s = max(longest_s, stretch_s)
        else:
            stretch_s = 0.0
    return longest_s


def first_use_s(rows: Sequence[GpuRow], *, started_at: float | None) -> float | None:
    """From the start (else from the first look) to the first look that found a GPU in use; None if none did."""
    if not rows:
        return None
    for tick in group(rows):
        if any((busy_pct(row) or 0) > 0 for row in tick):
            at = tick[0].timestamp_unix_s
            passed_s = elapsed_s(rows[0], tick[0]) if at is None or started_at is None else at - started_at
            return max(passed_s, 0.0)
    return None


def unused_count(rows: Sequence[GpuRow]) -> int | None:
    """How many GPUs were known to be at 0 % at each tick; None where the rows do not say whose they are."""
    if any(row.gpu is None for row in rows):
        return None
    by_gpu: dict[str | None, list[float]] = {}
    for row in rows:
        pct = busy_pct(row)
        by_gpu.setdefault(row.gpu, []).extend([] if pct is None else [pct])
    return sum(bool(values) and not any(values) for values in by_gpu.values())


def _is_idle(tick: Sequence[GpuRow]) -> bool | None:
    percents = [busy_pct(row) for row in tick]
    if any(percents):
        return False
    return None if None in percents else True


def power_and_energy(rows: Sequence[GpuRow]) -> tuple[float | None, float | None]:
    """Mean power in W of all GPUs together, and their energy in J.

    From the energy counter where all rows but each GPU's first have it; else power at the ticks, and its trapezoids
    where ticks lie at most three intervals apart (no energy if that is under 90 % of the time).
    """
    if any(is_instance(row) for row in rows):
        return None, None  # the whole GPU's, which others use too, and the same in each of its slices
    counted = _counted_energy(rows)
    if counted is not None:
        return counted
    powers = [(tick[0], w) for tick in complete_ticks(rows) if (w := _power_w(tick)) is not None]
    return (fmean(w for _, w in powers) if powers else None), _trapezoids_j(powers)


def _counted_energy(rows: Sequence[GpuRow]) -> tuple[float, float] | None:
    seen: set[str | None] = set()
    total_j = 0.0
    for row in rows:
        counted_j = row.number(GpuColumn.ENERGY_J)
        if row.gpu not in seen:
            seen.add(row.gpu)  # what its first row counts was used before that row
        elif counted_j is None:
            return None  # a part is missing
        else:
            total_j += counted_j
    whole_s = elapsed_s(rows[0], rows[-1]) if rows else 0.0
    return (total_j / whole_s, total_j) if whole_s > 0 else None


def _power_w(tick: Sequence[GpuRow]) -> float | None:
    powers_w = [row.power_w for row in tick if row.power_w is not None]
    return sum(powers_w) if powers_w and len(powers_w) == len(tick) else None


def _trapezoids_j(powers: Sequence[tuple[GpuRow, float]]) -> float | None:
    """The energy by the trapezoid rule; the interval is the median of the gaps."""
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
