"""When were the GPUs of a node in use? Idle stretches, the first use, and how many samples there should be. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from evalmon_agent.evidence.gpu_csv import GpuRow
from evalmon_agent.evidence.gpu_extras import busy_pct
from evalmon_agent.evidence.gpu_ticks import complete_ticks, elapsed_s, group
from evalmon_agent.words.csv_columns import GpuColumn

# Between two ticks that are further apart nobody knows.
MAX_GAP_IN_INTERVALS = 3.0
# The sampler takes a last look at the end if so much time has passed since the one before.
_LAST_AFTER_S = 1.0
_LONGEST_S = 10 * 365 * 86400.0


@dataclass(frozen=True, slots=True)
class Span:
    """When an attempt ran, by its node's clock, and how often it was sampled; None: not known."""

    started_at: float | None = None
    ended_at: float | None = None
    interval_s: float | None = None


def samples_expected(span: Span) -> int | None:
    """How many ticks the whole of it should have: one at once, one after each interval, one at the end."""
    if span.started_at is None or span.ended_at is None or span.interval_s is None or span.interval_s <= 0:
        return None
    length_s = span.ended_at - span.started_at
    if not 0 <= length_s <= _LONGEST_S:
        return None  # a clock that was set, or a report with nonsense in it
    intervals, rest_s = divmod(length_s, span.interval_s)
    return int(intervals) + 1 + (rest_s > _LAST_AFTER_S)


def longest_idle_s(rows: Sequence[GpuRow]) -> float | None:
    """The longest time in which no GPU of the node was in use; 0 if each look found one, None if nobody can tell.

    A tick is idle if every GPU is known to be at 0 %. With window means it speaks for the time since the tick before,
    as an instant only for itself.
    """
    ticks = list(complete_ticks(rows))
    idle = [_is_idle(tick) for tick in ticks]
    if len(ticks) < 2 or all(known is None for known in idle):
        return None
    longest_s = stretch_s = 0.0
    gaps_s = [elapsed_s(before[0], tick[0]) for before, tick in pairwise(ticks)]
    limit_s = MAX_GAP_IN_INTERVALS * _interval_s(gaps_s)
    for number, gap_s in enumerate(gaps_s, start=1):
        is_since_before = idle[number - 1] or all(map(_has_mean, ticks[number]))
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


def unused(rows: Sequence[GpuRow]) -> int | None:
    """How many GPUs were known to be at 0 % at each look; None where the rows do not say whose they are."""
    if any(row.gpu is None for row in rows):
        return None
    known: dict[str | None, list[float]] = {}
    for row in rows:
        pct = busy_pct(row)
        known.setdefault(row.gpu, []).extend([] if pct is None else [pct])
    return sum(bool(values) and not any(values) for values in known.values())


def _is_idle(tick: Sequence[GpuRow]) -> bool | None:
    known = [busy_pct(row) for row in tick]
    if any(known):
        return False
    return None if None in known else True


def _has_mean(row: GpuRow) -> bool:
    return row.number(GpuColumn.UTILIZATION_MEAN_PCT) is not None


def _interval_s(gaps_s: Sequence[float]) -> float:
    forward = sorted(gap_s for gap_s in gaps_s if gap_s > 0)
    return forward[len(forward) // 2] if forward else 0.0
