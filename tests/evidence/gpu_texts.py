"""Builds texts of gpu_metrics.csv as nvidia-smi and evalmon's sampler write them."""

from __future__ import annotations

from datetime import UTC, datetime

from evalmon_agent.agent.sampling import gpu_sampler
from evalmon_agent.agent.sampling.gpu_sampler import Reading
from evalmon_agent.agent.sampling.nvml import Device
from evalmon_agent.words.csv_columns import GpuColumn

SMI_HEADER = (
    "timestamp, utilization.gpu [%], utilization.memory [%], memory.used [MiB], memory.total [MiB], "
    "power.draw [W], temperature.gpu\n"
)
OUR_HEADER = SMI_HEADER.rstrip("\n") + ", index, uuid, timestamp_unix [s], sm.active [%], throttled\n"
BEGIN_UNIX_S = 1771597692.659


def smi_row(at_s: float, *, utilization: int = 37, used_mib: int = 3984, power_w: float = 180.4) -> str:
    stamp = datetime.fromtimestamp(BEGIN_UNIX_S + at_s, tz=UTC).strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]
    return f"{stamp}, {utilization} %, 12 %, {used_mib} MiB, 81920 MiB, {power_w:.2f} W, 44\n"


def our_row(at_s: float, gpu: int, *, utilization: int = 37, used_mib: int = 3984, power_w: float = 180.4) -> str:
    seven = smi_row(at_s, utilization=utilization, used_mib=used_mib, power_w=power_w).rstrip("\n")
    return f"{seven}, {gpu}, GPU-{gpu}a5b-11, {BEGIN_UNIX_S + at_s:.3f}, 4.5, 0\n"


def our_tick(at_s: float, *utilizations: int, used_mib: int = 3984, power_w: float = 180.4) -> str:
    return "".join(
        our_row(at_s, gpu, utilization=utilization, used_mib=used_mib, power_w=power_w)
        for gpu, utilization in enumerate(utilizations)
    )


SAMPLER_HEADER = GpuColumn.first_line().decode()


def sampler_row(at_s: float, gpu: int = 0, *, uuid: str = "GPU-{}a5b-11", **values: float | str) -> str:
    """A row as the sampler writes it; `values`: cells of columns, by their name in lower case; the others have none."""
    reading: Reading = {
        GpuColumn.UTILIZATION_PCT: 37,
        GpuColumn.MEMORY_USED_MIB: 3984,
        GpuColumn.MEMORY_TOTAL_MIB: 81920,
        **{GpuColumn[name.upper()]: value for name, value in values.items()},
    }
    device = Device(str(gpu), uuid.format(gpu))
    return gpu_sampler.row(device, reading, at_unix_s=BEGIN_UNIX_S + at_s).decode()


def sampler_file(*rows: str) -> str:
    return SAMPLER_HEADER + "".join(rows)
