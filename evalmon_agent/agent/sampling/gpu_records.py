"""A GPU as NVML shows it, and what one look at it gave. Pure records."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self, TypeAlias

NO_VALUE = "[N/A]"

# A text stands for the reason why there is no number: "[N/A]", "[Insufficient Permissions]" and the like.
Value: TypeAlias = float | int | str


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


@dataclass(slots=True)
class Reading:
    """One GPU at one moment. Means are over the time since the tick before. What nobody sets is not available."""

    clock_reasons: Value = NO_VALUE
    energy_j: Value = NO_VALUE
    graphics_activity_pct: Value = NO_VALUE
    memory_total_mib: Value = NO_VALUE
    memory_used_mib: Value = NO_VALUE
    memory_utilization_mean_pct: Value = NO_VALUE
    memory_utilization_pct: Value = NO_VALUE
    power_limit_w: Value = NO_VALUE
    power_mean_w: Value = NO_VALUE
    power_w: Value = NO_VALUE
    sm_activity_pct: Value = NO_VALUE
    sm_clock_mhz: Value = NO_VALUE
    temperature_c: Value = NO_VALUE
    tensor_activity_pct: Value = NO_VALUE
    utilization_mean_pct: Value = NO_VALUE
    utilization_pct: Value = NO_VALUE

    @classmethod
    def all(cls, cell: str) -> Self:
        """The same in all cells."""
        return cls(**{column.name: cell for column in fields(cls)})
