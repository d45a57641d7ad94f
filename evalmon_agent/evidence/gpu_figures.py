"""Defines the figures of a job's GPUs, `gpu` of summary.json, and how summary.md shows them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from operator import attrgetter

from evalmon_agent.words.durations import clock
from evalmon_agent.words.sizes import human_bytes, number


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """Figures over all GPUs of a job; None where no row had a value.

    Utilization is a row's mean since the row before where the file has it, else the instant (`gpu_csv.busy_pct`).
    The docstrings are also in docs/files.md (`scripts/docs`).
    """

    count: int | None
    """How many GPUs were sampled together."""
    samples: int
    """How many ticks there are."""
    utilization_mean_pct: float | None
    """The mean over all rows: each GPU and each tick weighs the same."""
    utilization_p95_pct: float | None
    """95 % of the rows are at or below this (nearest rank)."""
    utilization_max_pct: float | None
    """The maximum over all rows."""
    idle_fraction: float | None
    """The part of the rows with a utilization where it is 0 %; from 0 to 1."""
    memory_peak_bytes: int | None
    """The sum over all GPUs of the most that each used between two ticks, looked at once a second."""
    memory_total_bytes: int | None
    """The memory of all GPUs together."""
    power_mean_w: float | None
    """The power of all GPUs together; unknown for MIG instances."""
    energy_j: float | None
    """From the energy counter, else from power and time; unknown if much of it is missing, and for MIG instances."""
    samples_expected: int | None = None
    """How many ticks there should be, by the attempt's length and the interval; unknown if one of these is."""
    below_5_pct_fraction: float | None = None
    """The part of the rows with a utilization where it is below 5 %; from 0 to 1."""
    longest_idle_s: float | None = None
    """The longest time in which no GPU (of one node) was in use."""
    first_use_s: float | None = None
    """From the attempt's start to the first tick with a GPU in use; unknown if there is none."""
    unused_count: int | None = None
    """How many GPUs were not in use at any tick."""
    near_power_cap_fraction: float | None = None
    """The part of the rows with that information at 95 % of the power limit or more, or slowed down by it."""
    throttled_fraction: float | None = None
    """The part of the rows with that information slowed down by heat, the power supply or the board."""
    sm_activity_mean_pct: float | None = None
    """The part of the multiprocessors that was busy, by GPM (Hopper and later)."""
    tensor_activity_mean_pct: float | None = None
    """The part of the time in which the tensor cores were busy, likewise."""

    def values(self) -> tuple[float | None, ...]:
        """Every figure, in the order of the fields."""
        values: tuple[float | None, ...] = _VALUES(self)
        return values


_VALUES = attrgetter(*(field.name for field in fields(GpuFigures)))


def _percents(*values: float | None) -> str:
    return " / ".join(number(value, "%") for value in values)


def _shares(*fractions: float | None) -> str:
    return _percents(*(None if fraction is None else 100 * fraction for fraction in fractions))


COLUMNS: dict[str, Callable[[GpuFigures], str]] = {
    "GPUs": lambda gpu: number(gpu.count),
    "Busy: mean / p95 / max": lambda gpu: _percents(
        gpu.utilization_mean_pct, gpu.utilization_p95_pct, gpu.utilization_max_pct
    ),
    "At 0% / below 5%": lambda gpu: _shares(gpu.idle_fraction, gpu.below_5_pct_fraction),
    "Longest idle": lambda gpu: clock(gpu.longest_idle_s),
    "First use": lambda gpu: "never" if gpu.utilization_max_pct == 0 else clock(gpu.first_use_s),
    "Memory: peak / total": lambda gpu: f"{human_bytes(gpu.memory_peak_bytes)} / {human_bytes(gpu.memory_total_bytes)}",
    "Power": lambda gpu: number(gpu.power_mean_w, " W"),
    "Energy": lambda gpu: number(None if gpu.energy_j is None else gpu.energy_j / 1000, " kJ", digits=1),
    "Near cap / throttled": lambda gpu: _shares(gpu.near_power_cap_fraction, gpu.throttled_fraction),
    "Samples": lambda gpu: f"{number(gpu.samples)} of {number(gpu.samples_expected)}",
}
"""The columns of summary.md's table: the heading, and the function for the cell."""
