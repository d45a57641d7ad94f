"""Which GPU, which nvidia-smi, and in which environment: the machine's own, or stand-ins."""

import argparse
import os
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import pynvml

from verify_gpu.plan import curve, plan

_LEAD_S = 4.0  # the stand-in's load begins at a time that its world knows beforehand


class NoGpuError(Exception):
    """There is nothing to verify here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """What the programs are started with."""

    name: str
    uuid: str
    driver: str
    nvidia_smi: str
    environment: dict[str, str] = field(repr=False)
    start: float | None = None


def real_setting(index: int) -> Setting:
    """The GPU of that NVML index.

    Raises:
        NoGpuError: there is none, or no nvidia-smi.
    """
    program = shutil.which("nvidia-smi")
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
        driver = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError as error:
        raise NoGpuError(f"no GPU {index} here: NVML says: {error}") from None
    if not program:
        raise NoGpuError("no nvidia-smi on PATH to compare with")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    return Setting(name, uuid, driver, program, {**clean, "CUDA_VISIBLE_DEVICES": uuid})


def standin_setting(scratch: Path, asked: argparse.Namespace) -> Setting:
    """A stand-in GPU that follows the plan by itself; the load runs on a stand-in of libcuda."""
    from nvml_standin.build import build, build_cuda  # noqa: PLC0415 (tests/ is not everywhere)
    from nvml_standin.world import World  # noqa: PLC0415

    library = scratch / "library"
    world = World(scratch, build(library), gpus=1)
    world.epoch = time.time() + _LEAD_S
    busy = plan(asked.interval)
    world.gpus[0].utilization = curve(busy, idle=0, full=100)
    world.gpus[0].power_w = curve(busy, idle=70, full=350)
    world.write()
    program = world.install_nvidia_smi(scratch / "bin")
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    environment = world.environment(clean, CUDA_VISIBLE_DEVICES=world.gpus[0].uuid)
    environment["LD_LIBRARY_PATH"] += f":{build_cuda(library)}"
    return Setting("a stand-in", world.gpus[0].uuid, world.driver, str(program), environment, start=world.epoch)
