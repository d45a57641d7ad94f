"""Writes what a look at a GPU gave as a row of gpu_metrics.csv. Pure; the first seven columns are nvidia-smi's."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from .gpu_records import NO_VALUE, Device, Reading

# Header, attribute of Reading, format of its number: with the unit, as nvidia-smi prints it.
_NVIDIA_SMI = (
    ("utilization.gpu [%]", "utilization_pct", "%d %%"),
    ("utilization.memory [%]", "memory_utilization_pct", "%d %%"),
    ("memory.used [MiB]", "memory_used_mib", "%d MiB"),
    ("memory.total [MiB]", "memory_total_mib", "%d MiB"),
    ("power.draw [W]", "power_w", "%.2f W"),
    ("temperature.gpu", "temperature_c", "%d"),
)
_EXTRAS = (
    ("utilization.gpu.window_mean [%]", "utilization_mean_pct", "%.1f %%"),
    ("utilization.memory.window_mean [%]", "memory_utilization_mean_pct", "%.1f %%"),
    ("power.draw.window_mean [W]", "power_mean_w", "%.2f W"),
    ("energy.window [J]", "energy_j", "%.3f J"),
    ("clocks.current.sm [MHz]", "sm_clock_mhz", "%d MHz"),
    ("enforced.power.limit [W]", "power_limit_w", "%.2f W"),
    ("clocks_event_reasons.active", "clock_reasons", "0x%016x"),
    ("gpm.graphics_activity.window_mean [%]", "graphics_activity_pct", "%.1f %%"),
    ("gpm.sm_activity.window_mean [%]", "sm_activity_pct", "%.1f %%"),
    ("gpm.tensor_activity.window_mean [%]", "tensor_activity_pct", "%.1f %%"),
)
_OURS = ("index", "uuid", "timestamp_unix [s]")

NVIDIA_SMI_COLUMNS = ("timestamp", *(header for header, _, _ in _NVIDIA_SMI))
HEADER = ", ".join([*NVIDIA_SMI_COLUMNS, *_OURS, *(header for header, _, _ in _EXTRAS)]).encode() + b"\n"
_FORMATS = tuple(number for _, _, number in (*_NVIDIA_SMI, *_EXTRAS))
_VALUES = attrgetter(*(name for _, name, _ in (*_NVIDIA_SMI, *_EXTRAS)))
_SMI_COUNT = len(_NVIDIA_SMI)


@dataclass(slots=True)
class GpuTick:
    """The rows of one moment, for one write, and of how many GPUs the row is missing."""

    rows: bytes = b""
    rows_count: int = 0
    gaps: int = 0
    troubles: list[str] = field(default_factory=list)

    def add(self, row: bytes) -> None:
        """One GPU's row."""
        self.rows += row
        self.rows_count += 1

    def miss(self, why: object) -> None:
        """One GPU's row is missing."""
        self.gaps += 1
        self.troubles.append(f"{why}")


class Moment:
    """When a tick was, as its rows say it."""

    __slots__ = ("local", "unix")

    def __init__(self, at_unix_s: float) -> None:
        self.unix = f"{at_unix_s:.3f}"
        self.local = local_time(at_unix_s)


def row(device: Device, reading: Reading, at: Moment) -> bytes:
    """One line with its newline."""
    # All at once, for with eight GPUs this is a good part of a tick.
    cells = [
        value if isinstance(value, str) else number % value
        for number, value in zip(_FORMATS, _VALUES(reading), strict=True)
    ]
    smi, extras = cells[:_SMI_COUNT], cells[_SMI_COUNT:]
    return _line([at.local, *smi, device.index, device.uuid, at.unix, *extras])


def row_of_nvidia_smi(device: Device, cells: Sequence[str], at: Moment) -> bytes:
    """A line from nvidia-smi's own cells but the first, the time; it knows nothing of the extras."""
    return _line([at.local, *cells, device.index, device.uuid, at.unix, *(NO_VALUE for _ in _EXTRAS)])


def local_time(at_unix_s: float) -> str:
    """Local time as nvidia-smi prints it, `2026/02/20 14:28:12.659`, to the millisecond of `timestamp_unix`."""
    whole_s, milliseconds = divmod(int(f"{at_unix_s:.3f}".replace(".", "")), 1000)
    return f"{time.strftime('%Y/%m/%d %H:%M:%S', time.localtime(whole_s))}.{milliseconds:03d}"


def _line(cells: Sequence[str]) -> bytes:
    return ", ".join(cells).encode() + b"\n"
