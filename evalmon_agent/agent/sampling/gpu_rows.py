"""A GPU, what one look at it gave, and its row of gpu_metrics.csv. Pure; the first seven columns are nvidia-smi's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TypeAlias

from evalmon_agent.words.csv_columns import GpuColumn

# A text stands for the reason why there is no number: "[N/A]", "[Insufficient Permissions]" and the like.
Value: TypeAlias = float | int | str

# One GPU at one moment. Means are over the time since the tick before. A missing key means not available.
Reading: TypeAlias = dict[GpuColumn, Value]

HEADER = GpuColumn.first_line()


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or one MIG instance of a GPU.

    `index` is NVML's, of an instance `parent:instance`; `minor` is the number of /dev/nvidiaN, None if unknown.
    `instances` are the visible ones; a GPU with MIG on and no visible instance counts as itself.
    """

    index: str
    uuid: str
    minor: int | None = None
    instances: tuple[Device, ...] = ()

    @property
    def units(self) -> tuple[Device, ...]:
        """The units that a program can use: its MIG instances, else the GPU."""
        return self.instances or (self,)


@dataclass(slots=True)
class GpuTick:
    """The rows of one moment, for one write, and how many GPUs lack a row."""

    rows: bytes = b""
    rows_count: int = 0
    gaps: int = 0
    troubles: list[str] = field(default_factory=list)

    def add(self, row: bytes) -> None:
        """Add one GPU's row."""
        self.rows += row
        self.rows_count += 1

    def miss(self, why: object) -> None:
        """Count a GPU whose row is missing."""
        self.gaps += 1
        self.troubles.append(f"{why}")


class Moment:
    """The cells for the time of a tick."""

    __slots__ = ("local", "unix")

    def __init__(self, at_unix_s: float) -> None:
        self.unix = f"{at_unix_s:.3f}"
        self.local = local_time(at_unix_s)


def row(device: Device, reading: Reading, at: Moment) -> bytes:
    """One line with its newline."""
    values: Reading = {
        **reading,
        GpuColumn.TIMESTAMP: at.local,
        GpuColumn.INDEX: device.index,
        GpuColumn.UUID: device.uuid,
        GpuColumn.TIMESTAMP_UNIX_S: at.unix,
    }
    return GpuColumn.line(values)


def local_time(at_unix_s: float) -> str:
    """Local time as nvidia-smi prints it, `2026/02/20 14:28:12.659`, to the millisecond of `timestamp_unix`."""
    whole_s, milliseconds = divmod(int(f"{at_unix_s:.3f}".replace(".", "")), 1000)
    return f"{time.strftime('%Y/%m/%d %H:%M:%S', time.localtime(whole_s))}.{milliseconds:03d}"
