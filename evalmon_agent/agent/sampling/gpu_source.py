"""Where do the GPUs' rows come from: NVML, else nvidia-smi, else nowhere, and why? Runs in the worker's thread."""

import os
import time

from . import gpu_rows, whose_gpus
from .nvml import FailedError, LostError, NoValueError, Nvml, NvmlMissingError
from .reading import Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol

    from .devices import Device
    from .gpu_look import GpuLook, Tools

    class Source(Protocol):
        """Somebody who looks at the job's GPUs."""

        name: str

        @property
        def count(self) -> int:
            """How many GPUs are the job's."""

        def tick(self) -> "GpuTick":
            """All rows of one moment."""


# A lost GPU is looked for again so often.
LOOK_AGAIN_AFTER_S = 300.0

_DRIVER_GPUS = "/proc/driver/nvidia/gpus"


class NoGpuError(Exception):
    """There is nothing to sample; the message says why."""


class GpuTick:
    """The rows of one moment, for one write, and of how many GPUs the row is missing."""

    __slots__ = ("gaps", "rows", "rows_count", "troubles")

    def __init__(self) -> None:
        self.rows = b""
        self.rows_count = 0
        self.gaps = 0
        self.troubles: list[str] = []

    def add(self, row: bytes) -> None:
        """One GPU's row."""
        self.rows += row
        self.rows_count += 1

    def miss(self, why: object) -> None:
        """One GPU's row is missing."""
        self.gaps += 1
        self.troubles.append(f"{why}")


def open_source(environ: "Mapping[str, str]") -> "Source":
    """Whoever can look at the job's GPUs.

    Raises:
        NoGpuError: nobody can, or the job has none.
    """
    try:
        nvml = Nvml()
    except NvmlMissingError as error:
        return _open_nvidia_smi(environ, nvml_says=str(error))
    try:
        devices = nvml.devices(whose_gpus.named_uuids(environ))
    except FailedError as error:
        raise NoGpuError(f"NVML: {error}") from error
    if not devices and (there := _driver_gpus()):
        raise NoGpuError(f"NVML shows no GPU, though this node has {there}: the job may not use them (device cgroup)")
    return NvmlSource(nvml, _chosen(environ, devices))


def _open_nvidia_smi(environ: "Mapping[str, str]", *, nvml_says: str) -> "Source":
    from .nvidia_smi import NvidiaSmi  # noqa: PLC0415 (seldom needed)

    smi = NvidiaSmi()
    devices = smi.devices()
    if not devices:
        raise NoGpuError(f"{nvml_says}; nvidia-smi gives nothing either{_other_makers()}")
    smi.devices_wanted = _chosen(environ, devices)
    return smi


def _chosen(environ: "Mapping[str, str]", devices: "Sequence[Device]") -> "Sequence[Device]":
    choice = whose_gpus.choose(environ, devices)
    if not choice.devices:
        raise NoGpuError(choice.reason)
    return choice.devices


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


class NvmlSource:
    """The job's GPUs by NVML. A lost one gets one row that says so, and is looked for again every five minutes."""

    name = "nvml"

    def __init__(
        self, nvml: Nvml, devices: "Sequence[Device]", *, look_again_after_s: float = LOOK_AGAIN_AFTER_S
    ) -> None:
        self._nvml = nvml
        self._devices = devices
        self._tools: Tools | None = None
        self._looks: dict[str, GpuLook] = {}
        self._lost_until_s: dict[str, float] = {}
        self._look_again_after_s = look_again_after_s
        self.count = len(devices)

    def tick(self) -> GpuTick:
        """All GPUs at one moment; those that cannot be read now are missing, and counted."""
        tick = GpuTick()
        at = gpu_rows.Moment(time.time())
        self._restart_if_all_are_lost(tick)
        for device in self._devices:
            is_lost = device.uuid in self._lost_until_s
            if is_lost and time.monotonic() < self._lost_until_s[device.uuid]:
                continue
            try:
                reading = self._look(device).read()
                self._lost_until_s.pop(device.uuid, None)
            except LostError as lost:
                self._lose(device)
                if is_lost:
                    continue
                reading = Reading(str(lost))
            except (FailedError, NoValueError) as error:
                tick.miss(error.__cause__ or error)
                continue
            tick.add(gpu_rows.row(device, reading, at))
        return tick

    def _look(self, device: "Device") -> "GpuLook":
        found = self._looks.get(device.uuid)
        if found is None:
            from .gpu_look import GpuLook, Tools  # noqa: PLC0415 (imports ctypes: only where NVML is)

            self._tools = self._tools or Tools(self._nvml)
            found = self._looks[device.uuid] = GpuLook(self._tools, device)
        return found

    def _lose(self, device: "Device") -> None:
        self._looks.pop(device.uuid, None)
        self._lost_until_s[device.uuid] = time.monotonic() + self._look_again_after_s

    def _restart_if_all_are_lost(self, tick: GpuTick) -> None:
        """With no handle left in use, NVML can be taken up anew: some come back only so."""
        if len(self._lost_until_s) == self.count and time.monotonic() >= min(self._lost_until_s.values()):
            try:
                self._nvml.restart()
            except (NoValueError, LostError, FailedError) as error:
                tick.troubles.append(f"NVML does not start again: {error.__cause__ or error}")
