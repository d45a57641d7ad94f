"""What one look at one GPU gave. Pure."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    # A text stands for the reason why there is no number: "[N/A]", "[Insufficient Permissions]" and the like.
    Value: TypeAlias = float | int | str

NO_VALUE = "[N/A]"


class Reading:
    """One GPU at one moment. Means are over the time since the tick before."""

    __slots__ = (
        "clock_reasons",
        "energy_j",
        "graphics_activity_pct",
        "memory_total_mib",
        "memory_used_mib",
        "memory_utilization_mean_pct",
        "memory_utilization_pct",
        "power_limit_w",
        "power_mean_w",
        "power_w",
        "sm_activity_pct",
        "sm_clock_mhz",
        "temperature_c",
        "tensor_activity_pct",
        "utilization_mean_pct",
        "utilization_pct",
    )

    clock_reasons: "Value"
    energy_j: "Value"
    graphics_activity_pct: "Value"
    memory_total_mib: "Value"
    memory_used_mib: "Value"
    memory_utilization_mean_pct: "Value"
    memory_utilization_pct: "Value"
    power_limit_w: "Value"
    power_mean_w: "Value"
    power_w: "Value"
    sm_activity_pct: "Value"
    sm_clock_mhz: "Value"
    temperature_c: "Value"
    tensor_activity_pct: "Value"
    utilization_mean_pct: "Value"
    utilization_pct: "Value"

    def __init__(self, everywhere: "Value" = NO_VALUE) -> None:
        for name in self.__slots__:
            setattr(self, name, everywhere)
