"""Names the columns of gpu_metrics.csv and host_metrics.csv: how a cell is written and read back, and what it means.

The members are in the order of the file. Needs the standard library only, since the sampler writes with it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Cell:
    """The format of a cell that has a value.

    Attributes:
        written: the % format of the value, with the unit as nvidia-smi prints it.
        pattern: the whole cell; its group is the value.
        highest: a greater number is invalid.
    """

    written: str
    pattern: str
    highest: float = math.inf


_TIME = Cell("%s", r"(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3})")
_UNIX = Cell("%.3f", r"(\d{1,11}(?:\.\d{1,9})?)")
_PERCENT = Cell("%d %%", r"(\d{1,3}) %")
_MEAN_PERCENT = Cell("%.1f %%", r"(\d{1,3}\.\d) %", highest=101)
_MIB = Cell("%d MiB", r"(\d{1,9}) MiB")
_WATT = Cell("%.2f W", r"(\d{1,6}\.\d\d) W")
_JOULE = Cell("%.3f J", r"(\d{1,12}\.\d{3}) J")
_MHZ = Cell("%d MHz", r"(\d{1,6}) MHz")
_CORES = Cell("%.2f cores", r"(\d{1,6}\.\d\d) cores")
_COUNT = Cell("%d", r"(\d{1,9})")


NO_VALUE = "[N/A]"


class Column(enum.Enum):
    """A column of a CSV; `meaning` is for docs/files.md (`scripts/docs`)."""

    def __init__(self, header: str, cell: Cell, meaning: str) -> None:
        """`header`: with the unit, as the file's first line has it."""
        self.header = header
        self.cell = cell
        self.meaning = meaning

    @classmethod
    def first_line(cls) -> bytes:
        """The header with its newline."""
        return ", ".join(column.header for column in cls).encode() + b"\n"

    @classmethod
    def line(cls, values: Mapping[Self, object]) -> bytes:
        """A row with its newline; a text is the cell itself, and what is missing or None is `[N/A]`."""
        cells = ((column, values.get(column)) for column in cls)
        return ", ".join(column.text(value) for column, value in cells).encode() + b"\n"

    def text(self, value: object) -> str:
        """The cell."""
        if value is None:
            return NO_VALUE
        return value if isinstance(value, str) else self.cell.written % value


@enum.unique
class GpuColumn(Column):
    """The columns of gpu_metrics.csv. In lower case a member's name is that of the field in a look at a GPU."""

    TIMESTAMP = "timestamp", _TIME, "local time"
    UTILIZATION_PCT = "utilization.gpu [%]", _PERCENT, "at this instant"
    MEMORY_UTILIZATION_PCT = "utilization.memory [%]", _PERCENT, "at this instant"
    MEMORY_USED_MIB = "memory.used [MiB]", _MIB, ""
    MEMORY_TOTAL_MIB = "memory.total [MiB]", _MIB, ""
    POWER_W = "power.draw [W]", _WATT, "at this instant"
    TEMPERATURE_C = "temperature.gpu", Cell("%d", r"(-?\d{1,4})"), "°C"

    INDEX = "index", Cell("%s", r"([0-9][0-9:.]{0,15})"), "NVML's; of a MIG instance `GPU:instance`"
    UUID = "uuid", Cell("%s", r"((?:GPU|MIG)-[0-9A-Za-z/-]{1,80})"), "of the GPU or the MIG instance"
    TIMESTAMP_UNIX_S = (
        "timestamp_unix [s]",
        _UNIX,
        "the same for all rows of a tick; decides where the local time repeats",
    )

    UTILIZATION_MEAN_PCT = (
        "utilization.gpu.window_mean [%]",
        _MEAN_PERCENT,
        "mean of the driver's own samples since the tick before; column 2 is an instant",
    )
    MEMORY_UTILIZATION_MEAN_PCT = (
        "utilization.memory.window_mean [%]",
        _MEAN_PERCENT,
        "mean of the driver's own samples, likewise",
    )
    MEMORY_MAX_MIB = (
        "memory.used.window_max [MiB]",
        _MIB,
        "the highest since the tick before, of a look each second; column 4 is an instant",
    )
    POWER_MEAN_W = "power.draw.window_mean [W]", _WATT, "from the energy counter, since the tick before"
    ENERGY_J = "energy.window [J]", _JOULE, "from the energy counter, since the tick before"
    SM_CLOCK_MHZ = "clocks.current.sm [MHz]", _MHZ, "at this instant"
    POWER_LIMIT_W = "enforced.power.limit [W]", _WATT, "the lowest of the limits that hold"
    CLOCK_REASONS = (
        "clocks_event_reasons.active",
        Cell("0x%016x", r"0x([0-9a-f]{16})"),
        "the bits of `nvmlClocksEventReason...`: why the clock is not higher",
    )
    GRAPHICS_ACTIVITY_PCT = (
        "gpm.graphics_activity.window_mean [%]",
        _MEAN_PERCENT,
        "part of the time in which any kernel ran, since the tick before (Hopper and later)",
    )
    SM_ACTIVITY_PCT = (
        "gpm.sm_activity.window_mean [%]",
        _MEAN_PERCENT,
        "part of the multiprocessors that was busy, likewise",
    )
    TENSOR_ACTIVITY_PCT = (
        "gpm.tensor_activity.window_mean [%]",
        _MEAN_PERCENT,
        "part of the time in which the tensor cores were busy, likewise",
    )


@enum.unique
class HostColumn(Column):
    """The columns of host_metrics.csv."""

    TIMESTAMP = "timestamp", _TIME, "as above"
    TIMESTAMP_UNIX_S = "timestamp_unix [s]", _UNIX, "as above"
    CPU_USED = "cpu.used [cores]", _CORES, "mean number of busy cores since the row before"
    CPU_LIMIT = "cpu.limit [cores]", _CORES, "by affinity and quota"
    MEMORY_USED = (
        "memory.used [MiB]",
        _MIB,
        "without file cache, which the kernel takes back when it needs room",
    )
    FILE_CACHE = "memory.file_cache [MiB]", _MIB, "what the kernel keeps of the files that the job read and wrote"
    MEMORY_PEAK = (
        "memory.peak [MiB]",
        _MIB,
        "as the kernel counts it: with file cache; from processes: the highest `memory.used` seen",
    )
    MEMORY_LIMIT = "memory.limit [MiB]", _MIB, "the tightest of job and step"
    PROCESSES = "processes", _COUNT, "of the job, on this node"
    READ = (
        "io.read [MiB]",
        _MIB,
        "from storage, since the start, by the processes that live and their ended children",
    )
    WRITTEN = "io.written [MiB]", _MIB, "to storage, likewise"


NVIDIA_SMI_COLUMNS = tuple(GpuColumn)[:7]
"""Those of `nvidia-smi --query-gpu=...`, in its order."""
LEADING_COLUMNS = tuple(GpuColumn)[:10]
"""The columns that every version of evalmon writes first."""
