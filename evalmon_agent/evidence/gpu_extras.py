"""Says of a row how busy its GPU was and what held it back. Pure; None where its columns are silent or absent."""

from __future__ import annotations

from evalmon_agent.evidence.gpu_csv import GpuRow
from evalmon_agent.words.csv_columns import GpuColumn

# nvmlClocksEventReason* (nvml.h): the power cap, and what makes a GPU slower than its settings would.
_SW_POWER_CAP = 0x04
_THROTTLED = 0x08 | 0x20 | 0x40 | 0x80  # HW slowdown, SW thermal, HW thermal, HW power brake
_NEAR = 0.95


def busy_pct(row: GpuRow) -> float | None:
    """How busy the GPU was: the mean since the row before, where the file has it; else at that instant.

    An instant is 1/6 to 1 s of the whole interval. NVML has no utilization of a MIG instance, but GPM on Hopper and
    later has its graphics activity, which counts the same thing: the time in which any kernel ran.
    """
    mean = row.number(GpuColumn.UTILIZATION_MEAN_PCT)
    if mean is not None:
        return mean
    if row.utilization_pct is not None:
        return row.utilization_pct
    return row.number(GpuColumn.GRAPHICS_ACTIVITY_PCT)


def is_instance(row: GpuRow) -> bool:
    """Whether it is a slice: power is the whole GPU's then, which others use too."""
    return row.uuid is not None and row.uuid.startswith("MIG-")


def is_near_power_cap(row: GpuRow) -> bool | None:
    """Whether the power limit held it back, or it drew 95 % of that."""
    if is_instance(row):
        return None
    reasons, limit_w = _reasons(row), row.number(GpuColumn.POWER_LIMIT_W)
    drawn_w = row.number(GpuColumn.POWER_MEAN_W)
    drawn_w = row.power_w if drawn_w is None else drawn_w
    if reasons is not None and reasons & _SW_POWER_CAP:
        return True
    if not limit_w or drawn_w is None:
        return None if reasons is None else False
    return drawn_w >= _NEAR * limit_w


def is_throttled(row: GpuRow) -> bool | None:
    """Whether heat, a failing power supply or the board slowed it down."""
    reasons = _reasons(row)
    return None if reasons is None else bool(reasons & _THROTTLED)


def _reasons(row: GpuRow) -> int | None:
    mask = row.cell(GpuColumn.CLOCK_REASONS)
    return None if mask is None else int(mask, 16)
