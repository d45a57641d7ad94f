"""Samples the job's GPUs into gpu_metrics.csv, in a thread of its own, since each call of the driver may hang."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from evalmon_agent.words.csv_columns import GpuColumn

from . import job_gpus
from .csv_file import CsvFile
from .gpu_reader import GpuReader, Reading
from .host_usage import local_time
from .nvml import Device, LostError, NoGpuError, Nvml, NvmlCallError
from .sampler_status import SamplerStatus

# A lost GPU is looked for again so often.
LOOK_AGAIN_AFTER_S = 300.0
_LOOK_EVERY_S = 1.0
_DRIVER_GPUS = "/proc/driver/nvidia/gpus"


class GpuSampler:
    """Samples once for each `sample`, and looks each second at values that pass quickly.

    Its thread never ends by itself where the driver hangs: leave the process with os._exit.

    Raises:
        RuntimeError: no thread can be created.
    """

    def __init__(
        self, environ: Mapping[str, str], file: CsvFile, status: SamplerStatus, *, show: Callable[[], None]
    ) -> None:
        """`show`: publishes the present state of `status`."""
        self._environ = environ
        self._file = file
        self._status = status
        self._show = show
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
                    self._show()
                elif self._gpus is not None:
                    self._gpus.look()
            except NoGpuError:
                self._show()  # the status says why
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
    return Gpus(nvml, job_gpus.choose(environ, devices))


def _driver_gpus() -> int:
    try:
        return len(os.listdir(_DRIVER_GPUS))
    except OSError:
        return 0


def _other_makers() -> str:
    """Said plainly: only NVIDIA's are sampled."""
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
        self._lost_until_s: dict[str, float] = {}
        self._look_again_after_s = look_again_after_s

    def sample(self) -> tuple[bytes, list[str]]:
        """The rows of all GPUs at one moment, and why others that are not lost have none."""
        rows, troubles, at_unix_s = b"", [], time.time()
        self._restart_if_all_are_lost()
        for device in self.devices:
            is_lost = device.uuid in self._lost_until_s
            if is_lost and time.monotonic() < self._lost_until_s[device.uuid]:
                continue
            try:
                reading = self._reader(device).read()
                self._lost_until_s.pop(device.uuid, None)
            except LostError as lost:
                self._readers.pop(device.uuid, None)
                self._lost_until_s[device.uuid] = time.monotonic() + self._look_again_after_s
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
        if len(self._lost_until_s) == len(self.devices) and time.monotonic() >= min(self._lost_until_s.values()):
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
