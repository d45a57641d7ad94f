"""One look at one GPU, by NVML: all figures of a row, and what has to be remembered for means over the time between."""

import time

from .gpm import Activity, ActivityOf
from .nvml import FailedError, NoValueError, Nvml
from .nvml_function import Questions
from .reading import NO_VALUE, Reading
from .window import SampleMean, Samples

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .devices import Device
    from .nvml_function import Question

_MIB = 1024 * 1024


class Tools:
    """What the looks at all GPUs share: one thread takes them, one after the other."""

    __slots__ = ("activity", "nvml", "questions", "samples")

    def __init__(self, nvml: Nvml) -> None:
        self.nvml = nvml
        self.questions = Questions(nvml)
        self.samples = Samples(nvml)
        self.activity = Activity(nvml)


class GpuLook:
    """A device of the job and its handle, kept for as long as it answers.

    Power, temperature, clock and limit of a MIG instance are those of its GPU; its utilization is unknown to NVML but
    for GPM, and the energy of a GPU is not that of one of its slices.

    Raises:
        NoValueError, LostError, FailedError: it gives no handle.
    """

    def __init__(self, tools: Tools, device: "Device") -> None:
        nvml = tools.nvml
        self.device = device
        self._nvml = nvml
        self._questions = tools.questions
        self._handle = nvml.handle(device)
        self._is_instance = device.uuid.startswith("MIG-")
        self._gpu = (
            nvml.ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", self._handle)
            if self._is_instance
            else self._handle
        )
        module = nvml.module
        self._utilization = SampleMean(tools.samples, self._gpu, module.NVML_GPU_UTILIZATION_SAMPLES)
        self._memory_utilization = SampleMean(tools.samples, self._gpu, module.NVML_MEMORY_UTILIZATION_SAMPLES)
        self._energy_before: tuple[float, int] | None = None
        self._activity = ActivityOf(tools.activity, self._gpu, instance=self._handle if self._is_instance else None)

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
        ask, gpu = self._questions, self._gpu
        rates = _or_cell(ask.utilization.of, self._handle)
        if isinstance(rates, str):
            reading.utilization_pct = reading.memory_utilization_pct = rates
        else:
            reading.utilization_pct, reading.memory_utilization_pct = rates
        memory = _or_cell(self._memory, self._handle)
        if isinstance(memory, str):
            reading.memory_used_mib = reading.memory_total_mib = memory
        else:
            used, total = memory
            reading.memory_used_mib, reading.memory_total_mib = used // _MIB, total // _MIB
        power_mw = _or_cell(ask.power_mw.of, gpu)
        reading.power_w = power_mw if isinstance(power_mw, str) else power_mw[0] / 1000
        reading.temperature_c = _or_cell(self._temperature, gpu)

    def _read_extras(self, reading: Reading) -> None:
        ask, gpu = self._questions, self._gpu
        reading.sm_clock_mhz = _first_of_extra(ask.sm_clock_mhz, gpu)
        limit_mw = _first_of_extra(ask.power_limit_mw, gpu)
        reading.power_limit_w = limit_mw if isinstance(limit_mw, str) else limit_mw / 1000
        reading.clock_reasons = _extra(self._clock_reasons)
        if not self._is_instance:
            reading.utilization_mean_pct = _extra(self._utilization.since_last)
            reading.memory_utilization_mean_pct = _extra(self._memory_utilization.since_last)
            energy = _extra(self._energy)
            if isinstance(energy, tuple):
                reading.energy_j, reading.power_mean_w = energy
        activity = _extra(self._activity.since_last)
        if isinstance(activity, tuple):
            reading.graphics_activity_pct, reading.sm_activity_pct, reading.tensor_activity_pct = activity

    def _memory(self, handle: "Any") -> tuple[int, int]:
        """Used and total. Version 1 counts what the driver keeps for itself as used; before R510 there is only that."""
        ask = self._questions
        try:
            memory = ask.memory.of(handle)
            return memory[4], memory[1]
        except NoValueError:
            memory = ask.memory_v1.of(handle)
            return memory[2], memory[0]

    def _temperature(self, gpu: "Any") -> int:
        try:
            return int(self._questions.temperature_c.of(gpu)[0])
        except NoValueError:
            return int(self._nvml.ask("nvmlDeviceGetTemperatureV", gpu, self._nvml.module.NVML_TEMPERATURE_GPU))

    def _clock_reasons(self) -> int:
        try:
            return int(self._questions.clock_reasons.of(self._gpu)[0])
        except NoValueError:
            return int(self._questions.throttle_reasons.of(self._gpu)[0])

    def _energy(self) -> "tuple[float, float] | str":
        """Joules since the look before, and the mean power over that time."""
        energy_mj, at_s = self._questions.energy_mj.of(self._gpu)[0], time.monotonic()
        before, self._energy_before = self._energy_before, (at_s, energy_mj)
        if before is None or energy_mj < before[1] or at_s <= before[0]:
            return NO_VALUE
        energy_j = (energy_mj - before[1]) / 1000
        return energy_j, energy_j / (at_s - before[0])


def _or_cell(call: "Callable[[Any], Any]", device: "Any") -> "Any":
    """What `call` gives, or the cell that says why there is none."""
    try:
        return call(device)
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


def _first_of_extra(question: "Question", device: "Any") -> "Any":
    """A single number for such a column."""
    try:
        return question.of(device)[0]
    except NoValueError as no_value:
        return str(no_value)
    except FailedError:
        return NO_VALUE
