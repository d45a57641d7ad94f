"""A GPU as NVML shows it, and what one look at it gave. Pure records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from evalmon_agent.words.csv_columns import GpuColumn

NO_VALUE = "[N/A]"

# A text stands for the reason why there is no number: "[N/A]", "[Insufficient Permissions]" and the like.
Value: TypeAlias = float | int | str

# One GPU at one moment. Means are over the time since the tick before. What is not there is not available.
Reading: TypeAlias = dict[GpuColumn, Value]


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or one MIG instance of a GPU.

    `index` is NVML's, of an instance `parent:instance`; `minor` is the number of /dev/nvidiaN, None if unknown.
    `instances` are those that we may see; a GPU with MIG on and none of them stands for itself.
    """

    index: str
    uuid: str
    minor: int | None = None
    instances: tuple[Device, ...] = ()

    @property
    def units(self) -> tuple[Device, ...]:
        """What a program can use of it: its instances, else the GPU."""
        return self.instances or (self,)
