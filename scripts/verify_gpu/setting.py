"""Chooses the GPU, nvidia-smi and environment: the machine's own, or stand-ins."""

import argparse
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import pynvml

from verify_gpu.plan import PEAK_MIB, curve, peaks_plan, plan

EVALMON = Path(__file__).resolve().parents[2] / ".venv/bin/evalmon"

_IDLE_MIB = 3984
_LEAD_S = 4.0  # the stand-in's load begins at a time that its world knows beforehand


class NoGpuError(Exception):
    """There is no GPU to verify; the message says why."""


@dataclass(frozen=True)
class Setting:
    """The GPU, programs and environment."""

    name: str
    uuid: str
    driver: str
    nvidia_smi: str
    environment: dict[str, str] = field(repr=False)
    start: float | None = None


def real_setting(index: int | None) -> Setting:
    """The GPU of that NVML index; None: the first of CUDA_VISIBLE_DEVICES, else the first.

    Raises:
        NoGpuError: there is none, it is sliced, or no nvidia-smi.
    """
    program = shutil.which("nvidia-smi")
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip() if index is None else str(index)
    try:
        pynvml.nvmlInit()
        handle = _handle(wanted)
        uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
        driver = pynvml.nvmlSystemGetDriverVersion()
        is_sliced = uuid.startswith("MIG-") or _is_sliced(handle)
    except pynvml.NVMLError as error:
        raise NoGpuError(f"no GPU {wanted} here: NVML says: {error}") from None
    if is_sliced:
        raise NoGpuError(f"GPU {wanted} is sliced (MIG): NVML has no utilization of it that could be compared")
    if not program:
        raise NoGpuError("no nvidia-smi on PATH to compare with")
    return Setting(name, uuid, driver, program, {**_outside_slurm(), "CUDA_VISIBLE_DEVICES": uuid})


def _handle(wanted: str) -> object:
    if wanted.isdigit():
        return pynvml.nvmlDeviceGetHandleByIndex(int(wanted))
    return pynvml.nvmlDeviceGetHandleByUUID(wanted)


def _is_sliced(handle: object) -> bool:
    try:
        return bool(pynvml.nvmlDeviceGetMigMode(handle)[0])
    except pynvml.NVMLError:
        return False


def _outside_slurm() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}


def standin_setting(scratch: Path, options: argparse.Namespace) -> Setting:
    """A stand-in GPU that follows the plan by itself; the load runs on a stand-in of libcuda."""
    from nvml_standin.build import build, build_cuda  # noqa: PLC0415 (tests/ is not everywhere)
    from nvml_standin.world import World  # noqa: PLC0415

    library = scratch / "library"
    world = World(scratch, build(library), gpus=1)
    world.epoch = time.time() + _LEAD_S
    busy, peaks = peaks_plan(options.interval) if options.peaks else (plan(options.interval), [])
    world.gpus[0].memory_used_mib = curve(peaks, idle=_IDLE_MIB, full=_IDLE_MIB + PEAK_MIB)
    world.gpus[0].utilization = curve(busy, idle=0, full=100)
    world.gpus[0].power_w = curve(busy, idle=70, full=350)
    world.write()
    program = world.install_nvidia_smi(scratch / "bin")
    environment = world.environment(_outside_slurm(), CUDA_VISIBLE_DEVICES=world.gpus[0].uuid)
    environment["LD_LIBRARY_PATH"] += f":{build_cuda(library)}"
    return Setting("a stand-in", world.gpus[0].uuid, world.driver, str(program), environment, start=world.epoch)
