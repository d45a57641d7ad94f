"""One look at one GPU, by NVML: all figures of a row, and what has to be remembered for means over the time between."""

import time

from . import gpm, window
from .nvml import FailedError, NoValueError, Nvml
from .reading import NO_VALUE, Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .devices import Device

_MIB = 1024 * 1024


class GpuLook:
    """A device of the job and its handle, kept for as long as it answers.

    Power, temperature, clock and limit of a MIG instance are those of its GPU; its utilization is unknown to NVML but
    for GPM, and the energy of a GPU is not that of one of its slices.

    Raises:
        NoValueError, LostError, FailedError: it gives no handle.
    """

    def __init__(self, nvml: Nvml, device: "Device") -> None:
        self.device = device
        self._nvml = nvml
        self._handle = nvml.handle(device)
        self._is_instance = device.uuid.startswith("MIG-")
        self._gpu = (
            nvml.ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", self._handle)
            if self._is_instance
            else self._handle
        )
        self._utilization = window.SampleMean(nvml, self._gpu, "NVML_GPU_UTILIZATION_SAMPLES")
        self._memory_utilization = window.SampleMean(nvml, self._gpu, "NVML_MEMORY_UTILIZATION_SAMPLES")
        self._energy_before: tuple[float, int] | None = None
        self._gpm = gpm.Activity(nvml, self._gpu, instance=self._handle if self._is_instance else None)

    def read(self) -> Reading:
        """The row's figures.

        Raises:
            LostError: the GPU is gone.
            FailedError: one of nvidia-smi's seven columns could not be read this time.
        """
        reading = Reading()
        self._read_columns(reading)
        self._read_extras(reading)
        return reading

    def _read_columns(self, reading: Reading) -> None:
        ask, handle, gpu = self._nvml.ask, self._handle, self._gpu
        rates = _or_cell(lambda: ask("nvmlDeviceGetUtilizationRates", handle))
        is_text = isinstance(rates, str)
        reading.utilization_pct = rates if is_text else rates.gpu
        reading.memory_utilization_pct = rates if is_text else rates.memory
        memory = _or_cell(self._memory)
        is_text = isinstance(memory, str)
        reading.memory_used_mib = memory if is_text else memory.used // _MIB
        reading.memory_total_mib = memory if is_text else memory.total // _MIB
        power_mw = _or_cell(lambda: ask("nvmlDeviceGetPowerUsage", gpu))
        reading.power_w = power_mw if isinstance(power_mw, str) else power_mw / 1000
        reading.temperature_c = _or_cell(self._temperature)

    def _read_extras(self, reading: Reading) -> None:
        ask, gpu = self._nvml.ask, self._gpu
        reading.sm_clock_mhz = _extra(lambda: ask("nvmlDeviceGetClockInfo", gpu, self._nvml.module.NVML_CLOCK_SM))
        reading.power_limit_w = _extra(lambda: ask("nvmlDeviceGetEnforcedPowerLimit", gpu) / 1000)
        reading.clock_reasons = _extra(self._clock_reasons)
        if not self._is_instance:
            reading.utilization_mean_pct = _extra(self._utilization.since_last)
            reading.memory_utilization_mean_pct = _extra(self._memory_utilization.since_last)
            energy = _extra(self._energy)
            if isinstance(energy, tuple):
                reading.energy_j, reading.power_mean_w = energy
        activity = _extra(self._gpm.since_last)
        if isinstance(activity, tuple):
            reading.graphics_activity_pct, reading.sm_activity_pct, reading.tensor_activity_pct = activity

    def _memory(self) -> "Any":
        """Version 1 counts what the driver keeps for itself as used; drivers before R510 have only that."""
        try:
            return self._nvml.ask("nvmlDeviceGetMemoryInfo", self._handle, self._nvml.module.nvmlMemory_v2)
        except (NoValueError, AttributeError):
            return self._nvml.ask("nvmlDeviceGetMemoryInfo", self._handle)

    def _temperature(self) -> int:
        try:
            degrees = self._nvml.ask("nvmlDeviceGetTemperature", self._gpu, self._nvml.module.NVML_TEMPERATURE_GPU)
        except NoValueError:
            degrees = self._nvml.ask("nvmlDeviceGetTemperatureV", self._gpu, self._nvml.module.NVML_TEMPERATURE_GPU)
        return int(degrees)

    def _clock_reasons(self) -> int:
        try:
            return int(self._nvml.ask("nvmlDeviceGetCurrentClocksEventReasons", self._gpu))
        except NoValueError:
            return int(self._nvml.ask("nvmlDeviceGetCurrentClocksThrottleReasons", self._gpu))

    def _energy(self) -> "tuple[float, float] | str":
        """Joules since the look before, and the mean power over that time."""
        energy_mj, at_s = self._nvml.ask("nvmlDeviceGetTotalEnergyConsumption", self._gpu), time.monotonic()
        before, self._energy_before = self._energy_before, (at_s, energy_mj)
        if before is None or energy_mj < before[1] or at_s <= before[0]:
            return NO_VALUE
        energy_j = (energy_mj - before[1]) / 1000
        return energy_j, energy_j / (at_s - before[0])


def _or_cell(call: "Callable[[], Any]") -> "Any":
    """What `call` gives, or the cell that says why there is none."""
    try:
        return call()
    except NoValueError as no_value:
        return str(no_value)


def _extra(call: "Callable[[], Any]") -> "Any":
    """The same for a column that no row fails for."""
    try:
        return call()
    except NoValueError as no_value:
        return str(no_value)
    except FailedError:
        return NO_VALUE
