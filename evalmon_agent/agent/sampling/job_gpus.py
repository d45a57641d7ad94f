"""Chooses the job's GPUs. Pure: from the environment at the start and what NVML shows.

Without device constraint a job sees its neighbours' GPUs too, so "all GPUs" is right only if no variable says
otherwise. CUDA_VISIBLE_DEVICES holds NVML indices whether devices are constrained or not;
SLURM_JOB_GPUS and SLURM_STEP_GPUS hold the minors of the whole node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .nvml import Device, NoGpuError

NO_GPU = "no GPU is the job's"
"""How the reason begins if Slurm gave the job none."""

_NONE_ON_PURPOSE = frozenset({"", "-1", "NoDevFiles"})
_GPU_VARIABLES = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE")


def no_gpu_reason(environ: Mapping[str, str]) -> str | None:
    """Why the job has no GPU, if the environment alone says so; NVML need not be asked then."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in _NONE_ON_PURPOSE:
        return f"{NO_GPU}: CUDA_VISIBLE_DEVICES is {visible.strip()!r}"
    if visible is None and _is_in_slurm(environ) and not any(environ.get(name) for name in _GPU_VARIABLES):
        return f"{NO_GPU}: Slurm set no GPU variable"
    return None


def choose(environ: Mapping[str, str], devices: Sequence[Device]) -> list[Device]:
    """The job's GPUs among those that NVML shows, in its order.

    Args:
        environ: as it was at the start.
        devices: all GPUs on which NVML gives a handle, by index.

    Raises:
        NoGpuError: there are none.
    """
    why_not = no_gpu_reason(environ)
    if why_not is not None:
        raise NoGpuError(why_not)
    everything = [unit for device in devices for unit in device.units]
    if not everything:
        raise NoGpuError("NVML shows no GPU")
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        chosen = _by_cuda(visible, devices, everything)
        why_not = f"none of CUDA_VISIBLE_DEVICES={visible[:200]!r} is a GPU that NVML shows"
    elif not _is_in_slurm(environ) or environ.get("SLURM_GPUS_ON_NODE") == str(len(everything)):
        return everything
    else:
        text = environ.get("SLURM_STEP_GPUS") or environ.get("SLURM_JOB_GPUS") or ""
        minors = {int(word) for word in _words(text) if _is_number(word)}
        chosen = [unit for device in devices if device.minor in minors for unit in device.units]
        told = f"Slurm's GPUs {text[:200]!r}" if text else f"SLURM_GPUS_ON_NODE={environ.get('SLURM_GPUS_ON_NODE')!r}"
        why_not = f"{told} are none that NVML shows"
    if not chosen:
        raise NoGpuError(why_not)
    return [unit for unit in everything if unit in chosen]


def _is_in_slurm(environ: Mapping[str, str]) -> bool:
    return bool(environ.get("SLURM_JOB_ID"))


def _words(text: str) -> list[str]:
    return [word for word in (part.strip() for part in text.split(",")) if word]


def _by_cuda(visible: str, devices: Sequence[Device], everything: Sequence[Device]) -> Sequence[Device]:
    """The entries as CUDA reads them: those after the first invalid one do not count."""
    words = _words(visible)
    chosen: list[Device] = []
    for word in words:
        units = _named(word, devices)
        if not units:
            break
        chosen += [unit for unit in units if unit not in chosen]
    # Global numbers in a job with constrained devices: if it sees that many GPUs, they are its own.
    if len(chosen) < len(words) and len(words) == len(everything) and all(map(_is_number, words)):
        return everything
    return chosen


def _named(word: str, devices: Sequence[Device]) -> tuple[Device, ...]:
    if _is_number(word):
        return next((device.units for device in devices if device.index == str(int(word))), ())
    for device in devices:
        if device.uuid == word:
            return device.units
        for instance in device.instances:
            if instance.uuid == word:
                return (instance,)
    # CUDA takes the beginning of a GPU's UUID as well, if only one begins so.
    begins = [device for device in devices if device.uuid.startswith(word) and word.startswith("GPU-")]
    return begins[0].units if len(begins) == 1 else ()


def _is_number(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) <= 4
