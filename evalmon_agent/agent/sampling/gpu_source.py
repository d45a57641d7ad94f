"""Opens a source for the job's GPUs: NVML, else nvidia-smi, else the reason why there is none. Runs in the worker."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from evalmon_agent.words.csv_columns import NVIDIA_SMI_COLUMNS, GpuColumn

from . import gpu_rows, job_gpus
from .gpu_reader import GpuReader
from .gpu_rows import Device, GpuTick, Reading
from .nvml import FailedError, LostError, Nvml, NvmlCallError, NvmlMissingError

# A lost GPU is looked for again so often.
LOOK_AGAIN_AFTER_S = 300.0
_DRIVER_GPUS = "/proc/driver/nvidia/gpus"
_PROGRAM = "nvidia-smi"
_FIELDS = tuple(column.header.partition(" [")[0] for column in NVIDIA_SMI_COLUMNS)
_QUERY = [_PROGRAM, f"--query-gpu={','.join(_FIELDS)},index,uuid", "--format=csv,noheader"]

# Without persistence mode it starts the driver first, which takes seconds.
_WITHIN_S = 20.0
_PASSING = frozenset({"[Unknown Error]", "[Timeout]"})


class Source(Protocol):
    """Samples the job's GPUs."""

    name: str

    @property
    def count(self) -> int:
        """How many GPUs are the job's."""

    def tick(self) -> GpuTick:
        """The rows of all GPUs at one moment."""

    def look(self) -> None:
        """Record values that pass quickly, between two ticks."""


class NoGpuError(Exception):
    """There is no GPU to sample; the message says why."""


def open_source(environ: Mapping[str, str]) -> Source:
    """The source that can sample the job's GPUs.

    Raises:
        NoGpuError: there is none, or the job has no GPU.
    """
    try:
        nvml = Nvml()
    except NvmlMissingError as error:
        return _open_nvidia_smi(environ, nvml_says=str(error))
    try:
        devices = nvml.devices(job_gpus.visible_uuids(environ))
    except FailedError as error:
        raise NoGpuError(f"NVML: {error}") from error
    if not devices and (there := _driver_gpus()):
        raise NoGpuError(f"NVML shows no GPU, though this node has {there}: the job may not use them (device cgroup)")
    return NvmlSource(nvml, _chosen(environ, devices))


def _open_nvidia_smi(environ: Mapping[str, str], *, nvml_says: str) -> Source:
    devices = _devices_by_nvidia_smi()
    if not devices:
        raise NoGpuError(f"{nvml_says}; nvidia-smi gives nothing either{_other_makers()}")
    return NvidiaSmi(_chosen(environ, devices))


def _chosen(environ: Mapping[str, str], devices: Sequence[Device]) -> Sequence[Device]:
    choice = job_gpus.choose(environ, devices)
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
    """Samples the job's GPUs with NVML. A lost GPU gets one row that says so, and is tried again every five minutes."""

    name = "nvml"

    def __init__(
        self, nvml: Nvml, devices: Sequence[Device], *, look_again_after_s: float = LOOK_AGAIN_AFTER_S
    ) -> None:
        self._nvml = nvml
        self._devices = devices
        self._readers: dict[str, GpuReader] = {}
        self._lost_until_s: dict[str, float] = {}
        self._look_again_after_s = look_again_after_s
        self.count = len(devices)

    def tick(self) -> GpuTick:
        """The rows of all GPUs at one moment; a GPU that cannot be read now has none, and is counted."""
        tick = GpuTick()
        at = gpu_rows.Moment(time.time())
        self._restart_if_all_are_lost(tick)
        for device in self._devices:
            is_lost = device.uuid in self._lost_until_s
            if is_lost and time.monotonic() < self._lost_until_s[device.uuid]:
                continue
            try:
                reading = self._reader(device).read()
                self._lost_until_s.pop(device.uuid, None)
            except LostError as lost:
                self._lose(device)
                if is_lost:
                    continue
                reading = dict.fromkeys(GpuColumn, str(lost))
            except NvmlCallError as error:
                tick.miss(error.__cause__ or error)
                continue
            tick.add(gpu_rows.row(device, reading, at))
        return tick

    def look(self) -> None:
        """Record the memory used, and samples that the driver's buffers would lose before the next tick."""
        for reader in self._readers.values():
            with suppress(NvmlCallError):  # the next tick says so
                reader.look()

    def _reader(self, device: Device) -> GpuReader:
        reader = self._readers.get(device.uuid)
        if reader is None:
            reader = self._readers[device.uuid] = GpuReader(self._nvml, device)
        return reader

    def _lose(self, device: Device) -> None:
        self._readers.pop(device.uuid, None)
        self._lost_until_s[device.uuid] = time.monotonic() + self._look_again_after_s

    def _restart_if_all_are_lost(self, tick: GpuTick) -> None:
        """Restart NVML if no handle is in use: some lost GPUs come back only then."""
        if len(self._lost_until_s) == self.count and time.monotonic() >= min(self._lost_until_s.values()):
            try:
                self._nvml.restart()
            except NvmlCallError as error:
                tick.troubles.append(f"NVML does not start again: {error.__cause__ or error}")


class NvidiaSmi:
    """nvidia-smi as a source of rows."""

    name = _PROGRAM

    def __init__(self, devices: Sequence[Device]) -> None:
        """`devices`: the job's."""
        self._devices = devices
        self.count = len(devices)

    def tick(self) -> GpuTick:
        """The rows of all GPUs at one moment."""
        tick = GpuTick()
        at = gpu_rows.Moment(time.time())
        rows = {cells[-1]: cells for cells in parse(_output())}
        for device in self._devices:
            cells = rows.get(device.uuid)
            if cells is None or not _PASSING.isdisjoint(cells):
                tick.miss("nvidia-smi gave no row" if cells is None else "nvidia-smi: a passing error")
            else:
                reading: Reading = dict(zip(NVIDIA_SMI_COLUMNS, cells, strict=False))
                tick.add(gpu_rows.row(device, reading, at))
        return tick

    def look(self) -> None:
        """Does nothing: starting a program every second would cost too much."""


def _devices_by_nvidia_smi() -> list[Device]:
    """The GPUs that nvidia-smi lists; none if it fails. It does not show minors, which usually equal the indices."""
    return [Device(cells[-2], cells[-1], minor=int(cells[-2])) for cells in parse(_output())]


def _output() -> str:
    """Its output, if it succeeds in time."""
    try:
        done = subprocess.run(_QUERY, executable=_program(), stdout=subprocess.PIPE, timeout=_WITHIN_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _program() -> str:
    """Its absolute path. Empty and relative entries of PATH are skipped: others may write to the eval's directory.

    Raises:
        FileNotFoundError: it is not on PATH.
    """
    for entry in os.environ.get("PATH", os.defpath).split(":"):
        path = os.path.join(entry, _PROGRAM)
        if entry.startswith("/") and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(_PROGRAM)


def parse(output: str) -> Iterator[list[str]]:
    """Its rows as cells (the seven columns, index and uuid); other lines are left out."""
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(_FIELDS) + 2 and cells[-1].startswith("GPU-") and cells[-2].isdigit():
            yield cells
