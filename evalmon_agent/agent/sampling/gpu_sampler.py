"""Samples the job's GPUs into gpu_metrics.csv, in a thread of its own, since each call of the driver may hang."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

from evalmon_agent.words.csv_columns import NO_VALUE, GpuColumn

from .csv_file import CsvFile, SamplerStatus
from .host_usage import local_time
from .nvml import Device, FailedError, LostError, NoGpuError, NoValueError, Nvml, NvmlCallError, choose

# One GPU at one moment. Means are over the time since the tick before. A missing key means not available; a text stands
# for the reason why there is no number: "[N/A]", "[Insufficient Permissions]" and the like.
Reading: TypeAlias = dict[GpuColumn, float | int | str]

_MIB = 1024 * 1024
_ACTIVITY = (GpuColumn.GRAPHICS_ACTIVITY_PCT, GpuColumn.SM_ACTIVITY_PCT, GpuColumn.TENSOR_ACTIVITY_PCT)

# The member of pynvml's c_nvmlValue_t for each nvmlValueType_t.
_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal"}

# The driver's buffer of utilization samples holds 14 s (H200, driver 580), and reading it takes 2.4 ms.
_SAMPLES_EVERY_S = 10.0

# Samples come several times a second: where none is for so long, the buffer has lost some.
_HOLE_US = 2_000_000
# A mean is given only if this part of its window is covered.
_COVERED = 0.9

_METRICS = ("NVML_GPM_METRIC_GRAPHICS_UTIL", "NVML_GPM_METRIC_SM_UTIL", "NVML_GPM_METRIC_ANY_TENSOR_UTIL")

# A lost GPU is tried again after this time.
LOOK_AGAIN_AFTER_S = 300.0
_LOOK_EVERY_S = 1.0
_DRIVER_GPUS = "/proc/driver/nvidia/gpus"


class GpuSampler:
    """Samples once for each `sample`, and looks each second at values that pass quickly.

    Its thread never ends by itself where the driver hangs: leave the process with os._exit.

    Raises:
        RuntimeError: no thread can be created.
    """

    def __init__(self, environ: Mapping[str, str], file: CsvFile, status: SamplerStatus) -> None:
        self._environ = environ
        self._file = file
        self._status = status
        self._gpus: Gpus | None = None
        self._go, self._is_idle, self._is_over = threading.Event(), threading.Event(), False
        self._is_idle.set()
        threading.Thread(target=self._live, daemon=True).start()

    def sample(self) -> None:
        """Begin to take a sample; where the one before is not there yet, that is a gap."""
        if self._is_over:
            return
        if not self._is_idle.is_set():
            self._status.count("gpu_gaps")
            self._status.trouble("the GPU driver had not answered when the next sample was due")
            return
        self._is_idle.clear()
        self._go.set()

    def wait(self, within_s: float) -> None:
        """Wait until the sample is taken."""
        self._is_idle.wait(max(within_s, 0.0))

    def _live(self) -> None:
        while not self._is_over:
            is_asked = self._go.wait(_LOOK_EVERY_S)
            try:
                if is_asked:
                    self._go.clear()
                    self._sample()
                    self._status.show()
                elif self._gpus is not None:
                    self._gpus.look()
            except NoGpuError:
                self._status.show()  # the status says why
            except Exception as error:  # noqa: BLE001 (a tick's catch-all)
                self._status.caught(error)
            finally:
                if is_asked:
                    self._is_idle.set()

    def _sample(self) -> None:
        if self._gpus is None:
            try:
                self._gpus = open_gpus(self._environ)
            except Exception as error:  # trying again each time would cost more than it is worth
                is_expected = isinstance(error, NoGpuError)
                self._status.texts["no_gpu_file"] = f"{error}" if is_expected else f"{type(error).__name__}: {error}"
                self._is_over = True
                raise
            self._status.texts["gpu_source"] = "nvml"
            self._status.counts["gpus"] = len(self._gpus.devices)
        rows, troubles = self._gpus.sample()
        self._status.count("gpu_gaps", len(troubles))
        for trouble in troubles:
            self._status.trouble(trouble)
        if rows:
            self._status.append(rows, self._file, "gpu_rows")


def open_gpus(environ: Mapping[str, str]) -> Gpus:
    """The job's GPUs.

    Raises:
        NoGpuError: NVML cannot be used or shows none, or the job has none.
    """
    try:
        nvml = Nvml()
    except NoGpuError as error:
        raise NoGpuError(f"{error}{_other_makers()}") from error
    devices = nvml.devices()
    if not devices and (number := _driver_gpus()):
        raise NoGpuError(f"NVML shows no GPU, though this node has {number}: the job may not use them (device cgroup)")
    return Gpus(nvml, choose(environ, devices))


def _driver_gpus() -> int:
    try:
        return len(os.listdir(_DRIVER_GPUS))
    except OSError:
        return 0


def _other_makers() -> str:
    """Part of the error if the node has accelerators of another maker, else ""."""
    if os.path.exists("/dev/kfd"):
        return "; this node has AMD GPUs (/dev/kfd), which are not sampled: only NVIDIA's are"
    if os.path.exists("/sys/module/xe") or os.path.exists("/sys/module/habanalabs"):
        return "; this node has accelerators of another maker, which are not sampled: only NVIDIA GPUs are"
    return ""


class Gpus:
    """The job's GPUs. A lost GPU gets one row that says so, and is tried again every five minutes."""

    def __init__(
        self, nvml: Nvml, devices: Sequence[Device], *, look_again_after_s: float = LOOK_AGAIN_AFTER_S
    ) -> None:
        self.devices = devices
        self._nvml = nvml
        self._readers: dict[str, GpuReader] = {}
        self._retry_lost_at_s: dict[str, float] = {}
        self._look_again_after_s = look_again_after_s

    def sample(self) -> tuple[bytes, list[str]]:
        """The rows of all GPUs at one moment, and why others that are not lost have none."""
        rows, troubles, at_unix_s = b"", [], time.time()
        self._restart_if_all_are_lost()
        for device in self.devices:
            is_lost = device.uuid in self._retry_lost_at_s
            if is_lost and time.monotonic() < self._retry_lost_at_s[device.uuid]:
                continue
            try:
                reading = self._reader(device).read()
                self._retry_lost_at_s.pop(device.uuid, None)
            except LostError as lost:
                self._readers.pop(device.uuid, None)
                self._retry_lost_at_s[device.uuid] = time.monotonic() + self._look_again_after_s
                if is_lost:
                    continue
                reading = dict.fromkeys(GpuColumn, str(lost))
            except NvmlCallError as error:
                troubles.append(f"{error.__cause__ or error}")
                continue
            rows += row(device, reading, at_unix_s=at_unix_s)
        return rows, troubles

    def look(self) -> None:
        """Record the memory used, and samples that the driver's buffers would lose before the next tick."""
        for reader in self._readers.values():
            with suppress(NvmlCallError):  # the next sample says so
                reader.look()

    def _reader(self, device: Device) -> GpuReader:
        reader = self._readers.get(device.uuid)
        if reader is None:
            reader = self._readers[device.uuid] = GpuReader(self._nvml, device)
        return reader

    def _restart_if_all_are_lost(self) -> None:
        """Restart NVML if no handle is in use: some lost GPUs come back only then."""
        if len(self._retry_lost_at_s) == len(self.devices) and time.monotonic() >= min(self._retry_lost_at_s.values()):
            with suppress(NvmlCallError):  # then the GPUs stay lost
                self._nvml.restart()


def row(device: Device, reading: Reading, *, at_unix_s: float) -> bytes:
    """One line of gpu_metrics.csv with its newline."""
    values: Reading = {
        **reading,
        GpuColumn.TIMESTAMP: local_time(at_unix_s),
        GpuColumn.INDEX: device.index,
        GpuColumn.UUID: device.uuid,
        GpuColumn.TIMESTAMP_UNIX_S: f"{at_unix_s:.3f}",
    }
    return GpuColumn.line(values)


class GpuReader:
    """A device of the job and its handle, kept as long as the device answers.

    Power, temperature, clock and limit of a MIG instance are those of its GPU; its utilization is unknown to NVML but
    for GPM, and the energy of a GPU is not that of one of its slices.

    Raises:
        NvmlCallError: there is no handle for it.
    """

    def __init__(self, nvml: Nvml, device: Device) -> None:
        module = nvml.module
        self._nvml = nvml
        self._handle = nvml.ask("nvmlDeviceGetHandleByUUID", device.uuid)  # indices move when a GPU is lost
        self._is_instance = device.uuid.startswith("MIG-")
        self._gpu = (
            nvml.ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", self._handle)
            if self._is_instance
            else self._handle
        )
        self._utilization = SampleMean(nvml, self._gpu, module.NVML_GPU_UTILIZATION_SAMPLES)
        self._memory_utilization = SampleMean(nvml, self._gpu, module.NVML_MEMORY_UTILIZATION_SAMPLES)
        self._fetched_s = time.monotonic()
        self._memory_max = 0
        self._has_activity = False
        self._energy_before: tuple[float, int] | None = None
        self._activity = GpmActivity(nvml, self._gpu, instance=self._handle if self._is_instance else None)

    def look(self) -> None:
        """Record the memory used now, and the utilization samples before the driver drops them.

        Raises:
            NvmlCallError: as its kinds say.
        """
        self._memory_max = max(self._memory_max, self._memory().used)
        if not self._has_activity and time.monotonic() - self._fetched_s >= _SAMPLES_EVERY_S:
            self._fetched_s = time.monotonic()
            self._utilization.fetch()
            self._memory_utilization.fetch()

    def read(self) -> Reading:
        """The row's figures.

        Raises:
            LostError: the GPU is gone.
            FailedError: one of nvidia-smi's seven columns could not be read this time.
        """
        reading: Reading = {}
        self._read_columns(reading)
        self._read_extras(reading)
        self._memory_max = 0
        return reading

    def _read_columns(self, reading: Reading) -> None:
        rates = _or_cell(lambda: self._nvml.ask("nvmlDeviceGetUtilizationRates", self._handle))
        utilizations = (rates, rates) if isinstance(rates, str) else (rates.gpu, rates.memory)
        reading[GpuColumn.UTILIZATION_PCT], reading[GpuColumn.MEMORY_UTILIZATION_PCT] = utilizations
        memory = _or_cell(self._memory)
        if isinstance(memory, str):
            reading[GpuColumn.MEMORY_USED_MIB] = reading[GpuColumn.MEMORY_TOTAL_MIB] = memory
        else:
            reading[GpuColumn.MEMORY_USED_MIB] = memory.used // _MIB
            reading[GpuColumn.MEMORY_TOTAL_MIB] = memory.total // _MIB
            reading[GpuColumn.MEMORY_MAX_MIB] = max(self._memory_max, memory.used) // _MIB
        reading[GpuColumn.POWER_W] = _or_cell(lambda: self._ask_gpu("nvmlDeviceGetPowerUsage") / 1000)
        reading[GpuColumn.TEMPERATURE_C] = _or_cell(self._temperature)

    def _read_extras(self, reading: Reading) -> None:
        sm = self._nvml.module.NVML_CLOCK_SM
        reading[GpuColumn.SM_CLOCK_MHZ] = _extra(lambda: self._ask_gpu("nvmlDeviceGetClockInfo", sm))
        reading[GpuColumn.POWER_LIMIT_W] = _extra(lambda: self._ask_gpu("nvmlDeviceGetEnforcedPowerLimit") / 1000)
        reading[GpuColumn.CLOCK_REASONS] = _extra(self._clock_reasons)
        if not self._is_instance:
            self._fetched_s = time.monotonic()
            reading[GpuColumn.UTILIZATION_MEAN_PCT] = _extra(self._utilization.since_last)
            reading[GpuColumn.MEMORY_UTILIZATION_MEAN_PCT] = _extra(self._memory_utilization.since_last)
            energy = _extra(self._energy)
            if isinstance(energy, tuple):
                reading[GpuColumn.ENERGY_J], reading[GpuColumn.POWER_MEAN_W] = energy
        activity = _extra(self._activity.since_last)
        self._has_activity = isinstance(activity, tuple) and isinstance(activity[0], float)
        if isinstance(activity, tuple):
            reading.update(zip(_ACTIVITY, activity, strict=True))

    def _ask_gpu(self, function: str, *arguments: object) -> Any:
        return self._nvml.ask(function, self._gpu, *arguments)

    def _memory(self) -> Any:
        """Memory used. Version 1 of the call counts the driver's reserve too; before R510 there is only that one."""
        function, version_2 = "nvmlDeviceGetMemoryInfo", self._nvml.module.nvmlMemory_v2
        return self._nvml.ask_first_of((function, self._handle, version_2), (function, self._handle))

    def _temperature(self) -> Any:
        words = (self._gpu, self._nvml.module.NVML_TEMPERATURE_GPU)
        return self._nvml.ask_first_of(("nvmlDeviceGetTemperature", *words), ("nvmlDeviceGetTemperatureV", *words))

    def _clock_reasons(self) -> Any:
        reasons = "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"
        return self._nvml.ask_first_of(*((name, self._gpu) for name in reasons))

    def _energy(self) -> tuple[float, float] | str:
        """Joules since the last row, and the mean power over that time."""
        energy_mj, at_s = self._ask_gpu("nvmlDeviceGetTotalEnergyConsumption"), time.monotonic()
        before, self._energy_before = self._energy_before, (at_s, energy_mj)
        if before is None or energy_mj < before[1] or at_s <= before[0]:
            return NO_VALUE
        energy_j = (energy_mj - before[1]) / 1000
        return energy_j, energy_j / (at_s - before[0])


class SampleMean:
    """The mean of the driver's own samples (several a second) of one sort (nvmlSamplingType_t) from tick to tick."""

    def __init__(self, nvml: Nvml, gpu: Any, sort: int) -> None:
        self._nvml = nvml
        self._gpu = gpu
        self._sort = sort
        self._last_us = 0
        self._start_over()

    def fetch(self) -> None:
        """Take the samples that have come since the last call out of the driver's buffer.

        Raises:
            NvmlCallError: as its kinds say; FailedError also where there is no new sample.
        """
        before_us = self._last_us
        kind, samples = self._nvml.ask("nvmlDeviceGetSamples", self._gpu, self._sort, before_us)
        member = _MEMBERS.get(kind)
        new = [sample for sample in samples if sample.timeStamp > before_us]
        if member is None or not new:
            return
        self._last_us = max(sample.timeStamp for sample in new)
        if before_us == 0:  # the sample before is of another device
            self._start_us = self._last_us
            return
        hole_us = min(sample.timeStamp for sample in new) - before_us
        self._hole_us += hole_us if hole_us > _HOLE_US else 0
        self._sum += sum(getattr(sample.sampleValue, member) for sample in new)
        self._count += len(new)

    def since_last(self) -> float | str:
        """The mean of the samples since the last call; "[N/A]" at the first, and where the buffer has lost too many.

        Raises:
            NvmlCallError: as its kinds say.
        """
        try:
            self.fetch()
        except FailedError:
            if not self._count:
                raise
        window_us = self._last_us - self._start_us
        is_covered = self._count and self._hole_us <= (1 - _COVERED) * window_us
        mean = self._sum / self._count if is_covered else NO_VALUE
        self._start_over()
        return mean

    def _start_over(self) -> None:
        self._start_us = self._last_us
        self._sum, self._count, self._hole_us = 0.0, 0, 0


def _or_cell(figure: Callable[[], Any]) -> Any:
    """The figure, or the cell that says why there is none."""
    try:
        return figure()
    except NoValueError as no_value:
        return str(no_value)


def _extra(figure: Callable[[], Any]) -> Any:
    """The same for a column whose error does not drop the row."""
    try:
        return _or_cell(figure)
    except FailedError:
        return NO_VALUE


class GpmActivity:
    """GPM samples of one GPU or one MIG instance."""

    def __init__(self, nvml: Nvml, gpu: Any, *, instance: Any = None) -> None:
        self._nvml = nvml
        self._gpu = gpu
        self._instance = instance
        self._instance_id: int | None = None
        self._samples: tuple[Any, Any] | None = None
        self._is_supported = True
        self._has_before = False

    def since_last(self) -> tuple[float | str, ...] | str:
        """Graphics (any kernel), SM and tensor activity since the call before, each a percentage or "[N/A]".

        "[N/A]" at the first call and after a failed one, and where there is no GPM.

        Raises:
            NvmlCallError: as its kinds say.
        """
        if self._is_supported and self._samples is None:
            self._prepare()
        if self._samples is None:
            return NO_VALUE
        before, now = self._samples
        has_before, self._has_before = self._has_before, False
        if self._instance_id is None:
            self._nvml.ask("nvmlGpmSampleGet", self._gpu, now)
        else:
            self._nvml.ask("nvmlGpmMigSampleGet", self._gpu, self._instance_id, now)
        self._samples, self._has_before = (now, before), True
        return self._between(before, now) if has_before else NO_VALUE

    def _prepare(self) -> None:
        try:
            self._is_supported = bool(self._nvml.ask("nvmlGpmQueryDeviceSupport", self._gpu).isSupportedDevice)
            if self._is_supported and self._instance is not None:
                self._instance_id = self._nvml.ask("nvmlDeviceGetGpuInstanceId", self._instance)
            if self._is_supported:
                self._samples = self._nvml.ask("nvmlGpmSampleAlloc"), self._nvml.ask("nvmlGpmSampleAlloc")
        except NoValueError:
            self._is_supported = False

    def _between(self, before: Any, now: Any) -> tuple[float | str, ...]:
        module = self._nvml.module
        request = module.c_nvmlGpmMetricsGet_t()
        request.version, request.numMetrics = module.NVML_GPM_METRICS_GET_VERSION, len(_METRICS)
        request.sample1, request.sample2 = before, now
        for number, name in enumerate(_METRICS):
            request.metrics[number].metricId = getattr(module, name)
        self._nvml.ask("nvmlGpmMetricsGet", request)
        return tuple(_value(request.metrics[number]) for number in range(len(_METRICS)))


def _value(metric: Any) -> float | str:
    return metric.value if metric.nvmlReturn == 0 and 0 <= metric.value <= 100.5 else NO_VALUE
