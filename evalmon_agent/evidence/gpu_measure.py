"""Measures the figures of a job's GPUs (`gpu_figures`) from the rows of its CSVs, tick by tick. Pure.

A tick is what was read of the GPUs at one moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median, median_high
from typing import TypeVar

from evalmon_agent.evidence.gpu_csv import GpuRow
from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.words.csv_columns import GpuColumn

_BYTES_PER_MIB = 1024 * 1024
_LOW_PCT = 5
# Between two ticks that are further apart the use is unknown.
_MAX_GAP_IN_INTERVALS = 3.0
_MIN_COVERED_FRACTION = 0.9
# The sampler takes a last look at the end if so much time has passed since the one before.
_LAST_AFTER_S = 1.0
_LONGEST_S = 10 * 365 * 86400.0

# nvidia-smi prints the GPUs of one round within milliseconds; its shortest usual interval is 1 s.
_SAME_ROUND_S = 0.5

_Number = TypeVar("_Number", int, float)


def figures(
    nodes: Iterable[Sequence[GpuRow]],
    *,
    started_at: float | None = None,
    ended_at: float | None = None,
    interval_s: float | None = None,
) -> GpuFigures | None:
    """The figures of one attempt, of whose rows there is a list per node; None if there is no row.

    When it ran, by its node's clock, and how often it was sampled, is None where that is unknown.
    Over several nodes counts, memory, power and energy are added up, for memory the peak of each node.
    """
    nodes = [rows for rows in nodes if rows]
    if not nodes:
        return None
    ticks = [list(complete_ticks(rows)) for rows in nodes]
    power = [power_and_energy(rows) for rows in nodes]
    rows = [row for rows in nodes for row in rows]
    busy = sorted(_known(row.busy_pct for row in rows))
    return GpuFigures(
        count=_sum([max(map(len, of_node), default=None) for of_node in ticks]),
        samples=max(sum(1 for _ in group(rows)) for rows in nodes),
        utilization_mean_pct=_mean(busy),
        utilization_p95_pct=busy[math.ceil(0.95 * len(busy)) - 1] if busy else None,
        utilization_max_pct=busy[-1] if busy else None,
        idle_fraction=_mean([pct == 0 for pct in busy]),
        memory_peak_bytes=_sum([_memory_peak_bytes(of_node) for of_node in ticks]),
        memory_total_bytes=_sum([_memory_total_bytes(of_node) for of_node in ticks]),
        power_mean_w=_sum([mean_w for mean_w, _ in power]),
        energy_j=_sum([energy_j for _, energy_j in power]),
        samples_expected=samples_expected(started_at, ended_at, interval_s=interval_s),
        below_5_pct_fraction=_mean([pct < _LOW_PCT for pct in busy]),
        longest_idle_s=max(_known(map(longest_idle_s, nodes)), default=None),
        first_use_s=min(_known(first_use_s(rows, started_at=started_at) for rows in nodes), default=None),
        unused_count=_sum([unused_count(rows) for rows in nodes]),
        near_power_cap_fraction=_mean(_known(row.is_near_power_cap for row in rows)),
        throttled_fraction=_mean(_known(row.is_throttled for row in rows)),
        sm_activity_mean_pct=_mean(_known(row.number(GpuColumn.SM_ACTIVITY_PCT) for row in rows)),
        tensor_activity_mean_pct=_mean(_known(row.number(GpuColumn.TENSOR_ACTIVITY_PCT) for row in rows)),
    )


def between(rows: Iterable[GpuRow], *, start_unix_s: float, end_unix_s: float) -> list[GpuRow]:
    """The rows that one attempt wrote: a requeued job appends to the same file. Rows without a stamp stay."""
    return [row for row in rows if row.timestamp_unix_s is None or start_unix_s <= row.timestamp_unix_s <= end_unix_s]


def _memory_peak_bytes(ticks: Sequence[Sequence[GpuRow]]) -> int | None:
    """The highest sum over all GPUs; GPUs without the figure are left out."""
    peaks = [int(sum(_known(row.memory_peak_mib for row in tick))) for tick in ticks]
    return max(peaks) * _BYTES_PER_MIB if any(map(memory_sums_mib, ticks)) else None


def _memory_total_bytes(ticks: Sequence[Sequence[GpuRow]]) -> int | None:
    totals = [sums[1] for tick in ticks if (sums := memory_sums_mib(tick))]
    return max(totals) * _BYTES_PER_MIB if totals else None


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _sum(values: Sequence[_Number | None]) -> _Number | None:
    """The sum; None if there is nothing to add, or a part of it is unknown."""
    present = [value for value in values if value is not None]
    return sum(present) if present and len(present) == len(values) else None


def samples_expected(started_at: float | None, ended_at: float | None, *, interval_s: float | None) -> int | None:
    """How many ticks the attempt should have: one at the start, one after each interval, one at the end."""
    if started_at is None or ended_at is None or interval_s is None or interval_s <= 0:
        return None
    length_s = ended_at - started_at
    if not 0 <= length_s <= _LONGEST_S:
        return None  # a clock that was set, or a report with nonsense in it
    intervals, rest_s = divmod(length_s, interval_s)
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
        is_since_before = idle[number - 1] or all(row.mean_pct is not None for row in ticks[number])
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
        if any((row.busy_pct or 0) > 0 for row in tick):
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
        by_gpu.setdefault(row.gpu, []).extend(_known([row.busy_pct]))
    return sum(bool(values) and not any(values) for values in by_gpu.values())


def _is_idle(tick: Sequence[GpuRow]) -> bool | None:
    percents = [row.busy_pct for row in tick]
    if any(percents):
        return False
    return None if None in percents else True


def power_and_energy(rows: Sequence[GpuRow]) -> tuple[float | None, float | None]:
    """Mean power in W of all GPUs together, and their energy in J.

    From the energy counter where all rows but each GPU's first have it; else power at the ticks, and its trapezoids
    where ticks lie at most three intervals apart (no energy if that is under 90 % of the time).
    """
    if any(row.is_instance for row in rows):
        return None, None  # the whole GPU's, which others use too, and the same in each of its slices
    counted = _counted_energy(rows)
    if counted is not None:
        return counted
    powers = [(tick[0], w) for tick in complete_ticks(rows) if (w := _sum([row.power_w for row in tick])) is not None]
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


@dataclass(frozen=True, slots=True)
class Tick:
    """All GPUs of the job at one moment."""

    at: float
    """As `GpuRow.at`."""
    utilization_pct: float | None
    """Over the GPUs that have one."""
    memory_used_mib: int | None
    memory_total_mib: int | None
    """Sums over the GPUs that have both."""


def last_tick(rows: Sequence[GpuRow]) -> Tick | None:
    """The last tick that is complete; None if none is."""
    ticks = list(complete_ticks(rows))
    if not ticks:
        return None
    used_mib, total_mib = memory_sums_mib(ticks[-1]) or (None, None)
    return Tick(
        at=ticks[-1][0].at,
        utilization_pct=_mean(_known(row.utilization_pct for row in ticks[-1])),
        memory_used_mib=used_mib,
        memory_total_mib=total_mib,
    )


def complete_ticks(rows: Sequence[GpuRow]) -> Iterator[list[GpuRow]]:
    """The rows of each complete tick.

    No tick beside a bad line is complete. Ours are written at once, so only the last one can lack rows: if
    it has fewer GPUs than the one before, it is left out until the next one has begun. nvidia-smi's rows
    carry no GPU: there the rows of one round lie closer together than the rounds.
    """
    ticks = list(group(rows))
    for before, tick, after in zip([None, *ticks], ticks, [*ticks[1:], None], strict=False):
        if _is_complete(tick, before, after):
            yield tick


def group(rows: Sequence[GpuRow]) -> Iterator[list[GpuRow]]:
    """The rows tick by tick, complete or not."""
    tick: list[GpuRow] = []
    for row in rows:
        if tick and not _belongs(row, tick):
            yield tick
            tick = []
        tick.append(row)
    if tick:
        yield tick


def elapsed_s(earlier: GpuRow, later: GpuRow) -> float:
    """The time between two rows of one file; negative where a clock was set back or an hour repeats."""
    if earlier.timestamp_unix_s is not None and later.timestamp_unix_s is not None:
        return later.timestamp_unix_s - earlier.timestamp_unix_s
    return (later.local_time - earlier.local_time).total_seconds()


def _belongs(row: GpuRow, tick: Sequence[GpuRow]) -> bool:
    if row.gpu is not None and any(row.gpu == other.gpu for other in tick):
        return False
    if row.timestamp_unix_s is not None or tick[-1].timestamp_unix_s is not None:
        return row.timestamp_unix_s == tick[-1].timestamp_unix_s
    return 0 <= elapsed_s(tick[-1], row) < _SAME_ROUND_S


def _is_complete(tick: Sequence[GpuRow], before: Sequence[GpuRow] | None, after: Sequence[GpuRow] | None) -> bool:
    if any(row.beside_bad_line for row in tick):
        return False
    if tick[0].timestamp_unix_s is None:
        return _is_whole_round(tick, before, after)
    if after or not before:
        return True
    gpus, gpus_before = {row.gpu for row in tick}, {row.gpu for row in before}
    # A requeued job may have got other GPUs.
    return gpus >= gpus_before or gpus.isdisjoint(gpus_before)


def _is_whole_round(tick: Sequence[GpuRow], before: Sequence[GpuRow] | None, after: Sequence[GpuRow] | None) -> bool:
    spread_s = elapsed_s(tick[0], tick[-1])
    if before is None and after is None:
        return spread_s == 0
    # Otherwise these are not rounds, but one GPU that was looked at many times a second.
    if any(0 <= elapsed_s(a[-1], b[0]) <= spread_s for a, b in pairwise([before, tick, after]) if a and b):
        return False
    return after is not None or before is None or len(tick) >= len(before)


def memory_sums_mib(rows: Sequence[GpuRow]) -> tuple[int, int] | None:
    """Used and total memory over the rows that have both; None if no row has."""
    pairs = [
        (row.memory_used_mib, row.memory_total_mib)
        for row in rows
        if row.memory_used_mib is not None and row.memory_total_mib is not None
    ]
    return (sum(used for used, _ in pairs), sum(total for _, total in pairs)) if pairs else None
