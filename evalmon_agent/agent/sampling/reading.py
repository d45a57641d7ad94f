"""What one look at one GPU gave. Pure."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    # A text stands for the reason why there is no number: "[N/A]", "[Insufficient Permissions]" and the like.
    Value: TypeAlias = float | int | str

NO_VALUE = "[N/A]"


class Reading:
    """One GPU at one moment. Means are over the time since the tick before. What nobody sets is not available."""

    clock_reasons: "Value" = NO_VALUE
    energy_j: "Value" = NO_VALUE
    graphics_activity_pct: "Value" = NO_VALUE
    memory_total_mib: "Value" = NO_VALUE
    memory_used_mib: "Value" = NO_VALUE
    memory_utilization_mean_pct: "Value" = NO_VALUE
    memory_utilization_pct: "Value" = NO_VALUE
    power_limit_w: "Value" = NO_VALUE
    power_mean_w: "Value" = NO_VALUE
    power_w: "Value" = NO_VALUE
    sm_activity_pct: "Value" = NO_VALUE
    sm_clock_mhz: "Value" = NO_VALUE
    temperature_c: "Value" = NO_VALUE
    tensor_activity_pct: "Value" = NO_VALUE
    utilization_mean_pct: "Value" = NO_VALUE
    utilization_pct: "Value" = NO_VALUE

    def __init__(self, everywhere: "Value | None" = None) -> None:
        """`everywhere`: the same in all cells."""
        if everywhere is not None:
            for name in type(self).__annotations__:  # an instance has none since Python 3.14
                setattr(self, name, everywhere)
