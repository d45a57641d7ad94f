"""What do our own columns behind nvidia-smi's seven say of a row? Pure; None where they are silent or absent."""

from __future__ import annotations

import re

from evalmon_agent.evidence.gpu_csv import GpuRow

_PERCENT = re.compile(r"(\d{1,3}\.\d) %", re.ASCII)
_WATT = re.compile(r"(\d{1,6}\.\d\d) W", re.ASCII)
_JOULE = re.compile(r"(\d{1,12}\.\d{3}) J", re.ASCII)
_MASK = re.compile(r"0x([0-9a-f]{16})", re.ASCII)

# nvmlClocksEventReason* (nvml.h): the power cap, and what makes a GPU slower than its settings would.
_SW_POWER_CAP = 0x04
_THROTTLED = 0x08 | 0x20 | 0x40 | 0x80  # HW slowdown, SW thermal, HW thermal, HW power brake
_NEAR = 0.95


def busy_pct(row: GpuRow) -> float | None:
    """How busy the GPU was: the mean since the row before, where the file has it; else at that instant.

    An instant is 1/6 to 1 s of the whole interval. NVML has no utilization of a MIG instance, but GPM on Hopper and
    later has its graphics activity, which counts the same thing: the time in which any kernel ran.
    """
    mean = window_mean_pct(row)
    if mean is not None:
        return mean
    if row.utilization_pct is not None:
        return row.utilization_pct
    return _percent(row, "gpm.graphics_activity.window_mean [%]")


def window_mean_pct(row: GpuRow) -> float | None:
    """The mean since the row before, from the driver's samples."""
    return _percent(row, "utilization.gpu.window_mean [%]")


def sm_activity_pct(row: GpuRow) -> float | None:
    """Which part of the multiprocessors was busy, since the row before."""
    return _percent(row, "gpm.sm_activity.window_mean [%]")


def tensor_activity_pct(row: GpuRow) -> float | None:
    """Which part of the time the tensor cores were busy, since the row before."""
    return _percent(row, "gpm.tensor_activity.window_mean [%]")


def energy_j(row: GpuRow) -> float | None:
    """From the energy counter, since the row before."""
    return _number(row, "energy.window [J]", _JOULE)


def is_instance(row: GpuRow) -> bool:
    """Whether it is a slice: power is the whole GPU's then, which others use too."""
    return row.uuid is not None and row.uuid.startswith("MIG-")


def is_near_power_cap(row: GpuRow) -> bool | None:
    """Whether the power limit held it back, or it drew 95 % of that."""
    if is_instance(row):
        return None
    reasons, limit_w = _reasons(row), _number(row, "enforced.power.limit [W]", _WATT)
    drawn_w = _number(row, "power.draw.window_mean [W]", _WATT)
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
    match = _MASK.fullmatch(row.extras.get("clocks_event_reasons.active", ""))
    return int(match[1], 16) if match else None


def _percent(row: GpuRow, column: str) -> float | None:
    value = _number(row, column, _PERCENT)
    return value if value is not None and value <= 101 else None


def _number(row: GpuRow, column: str, pattern: re.Pattern[str]) -> float | None:
    match = pattern.fullmatch(row.extras.get(column, ""))
    return float(match[1]) if match else None
