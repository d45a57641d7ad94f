"""What power did the GPUs of a node draw, and what energy did they take? Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

from evalmon_agent.evidence.gpu_csv import GpuRow
from evalmon_agent.evidence.gpu_extras import is_instance
from evalmon_agent.evidence.gpu_ticks import complete_ticks, elapsed_s
from evalmon_agent.evidence.gpu_use import MAX_GAP_IN_INTERVALS
from evalmon_agent.words.csv_columns import GpuColumn

_MIN_COVERED_FRACTION = 0.9


def power_and_energy(rows: Sequence[GpuRow]) -> tuple[float | None, float | None]:
    """Mean power in W of all GPUs together, and their energy in J.

    From the energy counter where all rows but each GPU's first have it; else power at the ticks, and its trapezoids
    where ticks lie at most three intervals apart (no energy if that is under 90 % of the time).
    """
    if any(is_instance(row) for row in rows):
        return None, None  # the whole GPU's, which others use too, and the same in each of its slices
    counted = _counted(rows)
    if counted is not None:
        return counted
    powers = [(tick[0], w) for tick in complete_ticks(rows) if (w := _power_w(tick)) is not None]
    return (fmean(w for _, w in powers) if powers else None), _trapezoids_j(powers)


def _counted(rows: Sequence[GpuRow]) -> tuple[float, float] | None:
    seen: set[str | None] = set()
    total_j = 0.0
    for row in rows:
        counted_j = row.number(GpuColumn.ENERGY_J)
        if row.gpu in seen and counted_j is None:
            return None  # a part is missing
        total_j += counted_j or 0.0 if row.gpu in seen else 0.0  # the first one's was before
        seen.add(row.gpu)
    whole_s = elapsed_s(rows[0], rows[-1]) if rows else 0.0
    return (total_j / whole_s, total_j) if whole_s > 0 else None


def _power_w(tick: Sequence[GpuRow]) -> float | None:
    known = [row.power_w for row in tick if row.power_w is not None]
    return sum(known) if known and len(known) == len(tick) else None


def _trapezoids_j(powers: Sequence[tuple[GpuRow, float]]) -> float | None:
    """The interval is the median of the gaps."""
    steps = [(elapsed_s(a, b), (power_a + power_b) / 2) for (a, power_a), (b, power_b) in pairwise(powers)]
    forward = [gap_s for gap_s, _ in steps if gap_s > 0]
    if not forward:
        return None
    longest_s = MAX_GAP_IN_INTERVALS * median(forward)
    sane = [(gap_s, power_w) for gap_s, power_w in steps if 0 < gap_s <= longest_s]
    covered_s = sum(gap_s for gap_s, _ in sane)
    if covered_s < _MIN_COVERED_FRACTION * sum(abs(gap_s) for gap_s, _ in steps):
        return None
    return sum(gap_s * power_w for gap_s, power_w in sane)
