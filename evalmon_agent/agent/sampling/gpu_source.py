"""Finds who can look at the job's GPUs: NVML, else nvidia-smi, else nobody, and why. Runs in the worker's thread."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from evalmon_agent.words.csv_columns import GpuColumn

from . import gpu_rows, nvidia_smi, whose_gpus
from .gpu_look import GpuLook
from .gpu_records import Device
from .gpu_rows import GpuTick
from .nvidia_smi import NvidiaSmi
from .nvml import FailedError, LostError, NoValueError, Nvml, NvmlMissingError


class Source(Protocol):
    """Somebody who looks at the job's GPUs."""

    name: str

    @property
    def count(self) -> int:
        """How many GPUs are the job's."""

    def tick(self) -> GpuTick:
        """All rows of one moment."""


# A lost GPU is looked for again so often.
LOOK_AGAIN_AFTER_S = 300.0

_DRIVER_GPUS = "/proc/driver/nvidia/gpus"


class NoGpuError(Exception):
    """There is nothing to sample; the message says why."""


def open_source(environ: Mapping[str, str]) -> Source:
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


def _open_nvidia_smi(environ: Mapping[str, str], *, nvml_says: str) -> Source:
    devices = nvidia_smi.devices()
    if not devices:
        raise NoGpuError(f"{nvml_says}; nvidia-smi gives nothing either{_other_makers()}")
    return NvidiaSmi(_chosen(environ, devices))


def _chosen(environ: Mapping[str, str], devices: Sequence[Device]) -> Sequence[Device]:
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
        self, nvml: Nvml, devices: Sequence[Device], *, look_again_after_s: float = LOOK_AGAIN_AFTER_S
    ) -> None:
        self._nvml = nvml
        self._devices = devices
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
                reading = dict.fromkeys(GpuColumn, str(lost))
            except (FailedError, NoValueError) as error:
                tick.miss(error.__cause__ or error)
                continue
            tick.add(gpu_rows.row(device, reading, at))
        return tick

    def _look(self, device: Device) -> GpuLook:
        look = self._looks.get(device.uuid)
        if look is None:
            look = self._looks[device.uuid] = GpuLook(self._nvml, device)
        return look

    def _lose(self, device: Device) -> None:
        self._looks.pop(device.uuid, None)
        self._lost_until_s[device.uuid] = time.monotonic() + self._look_again_after_s

    def _restart_if_all_are_lost(self, tick: GpuTick) -> None:
        """With no handle left in use, NVML can be taken up anew: some come back only so."""
        if len(self._lost_until_s) == self.count and time.monotonic() >= min(self._lost_until_s.values()):
            try:
                self._nvml.restart()
            except (NoValueError, LostError, FailedError) as error:
                tick.troubles.append(f"NVML does not start again: {error.__cause__ or error}")
