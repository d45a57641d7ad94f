"""Calls NVML, and is the only importer of pynvml: lists this node's devices, and chooses the job's among them.

NVML is initialised once and not forked afterwards; every call may hang, so all of that happens in the GPUs' thread.
Without device constraint a job sees its neighbours' GPUs too, so "all GPUs" is right only if no variable says
otherwise. CUDA_VISIBLE_DEVICES holds NVML indices whether devices are constrained or not;
SLURM_JOB_GPUS and SLURM_STEP_GPUS hold the minors of the whole node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalmon_agent.words.csv_columns import NO_VALUE

_MIG_ENABLED = 1

NO_GPU = "no GPU is the job's"
"""How the reason begins if Slurm gave the job none."""

_NONE_ON_PURPOSE = frozenset({"", "-1", "NoDevFiles"})
_GPU_VARIABLES = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "SLURM_GPUS_ON_NODE")


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, or one MIG instance of a GPU.

    `index` is NVML's, of an instance `parent:instance`; `minor` is the number of /dev/nvidiaN, None if unknown.
    `instances` are the visible ones; a GPU with MIG on and no visible instance counts as itself.
    """

    index: str
    uuid: str
    minor: int | None = None
    instances: tuple[Device, ...] = ()

    @property
    def units(self) -> tuple[Device, ...]:
        """The units that a program can use: its MIG instances, else the GPU."""
        return self.instances or (self,)


class NoGpuError(Exception):
    """There is no GPU to sample; the message says why."""


class NvmlCallError(Exception):
    """A call of NVML failed."""


class NoValueError(NvmlCallError):
    """This device does not have that figure; the message is its cell."""


class LostError(NvmlCallError):
    """The device is lost; the message is its cell."""


class FailedError(NvmlCallError):
    """This call failed; the next one may not."""


class Nvml:
    """Initialises NVML.

    Raises:
        NoGpuError: no module, library or driver, or their versions differ.
    """

    def __init__(self) -> None:
        try:
            import pynvml  # noqa: PLC0415 (only in the sampler of a job that may have GPUs)
        except ImportError as error:
            raise NoGpuError(f"the module pynvml cannot be imported ({error})") from error
        self.module: Any = pynvml
        self._meanings: dict[int, tuple[type[NvmlCallError], str]] = {
            pynvml.NVML_ERROR_NOT_SUPPORTED: (NoValueError, NO_VALUE),
            pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: (NoValueError, NO_VALUE),
            pynvml.NVML_ERROR_INVALID_ARGUMENT: (NoValueError, NO_VALUE),
            pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: (NoValueError, NO_VALUE),
            pynvml.NVML_ERROR_NO_PERMISSION: (NoValueError, "[Insufficient Permissions]"),
            pynvml.NVML_ERROR_GPU_IS_LOST: (LostError, "[GPU is lost]"),
            pynvml.NVML_ERROR_RESET_REQUIRED: (LostError, "[GPU requires reset]"),
        }
        try:
            self.ask("nvmlInit")
        except NvmlCallError as error:
            raise NoGpuError(f"NVML: {error.__cause__ or error}") from error

    def ask(self, function: str, *arguments: object) -> Any:
        """What `function` of pynvml returns.

        Raises:
            NvmlCallError: as its kinds say. NVMLError itself is unhashable and can stand for success.
        """
        try:
            return getattr(self.module, function)(*arguments)
        except AttributeError as error:  # an older pynvml
            raise NoValueError(NO_VALUE) from error
        except self.module.NVMLError as error:
            kind, cell = self._meanings.get(error.value, (FailedError, f"{error}"))
            raise kind(cell) from error

    def ask_first_of(self, call: tuple[Any, ...], other: tuple[Any, ...]) -> Any:
        """What the one or the other function returns: drivers differ in which they know. Raises as `ask` does."""
        try:
            return self.ask(*call)
        except NoValueError:
            return self.ask(*other)

    def devices(self) -> list[Device]:
        """The devices that NVML shows, by index.

        Raises:
            NoGpuError: NVML cannot even count devices.
        """
        try:
            count = self.ask("nvmlDeviceGetCount")
        except NvmlCallError as error:
            raise NoGpuError(f"NVML: {error}") from error
        return [device for index in range(count) for device in self._device_at(index)]

    def restart(self) -> None:
        """Shut NVML down and initialise it again, which finds devices that came back.

        Raises:
            NvmlCallError: as its kinds say.
        """
        self.ask("nvmlShutdown")
        self.ask("nvmlInit")

    def _device_at(self, index: int) -> Iterator[Device]:
        """The device; nothing if NVML gives no handle, since it belongs to another job or is lost."""
        try:
            handle = self.ask("nvmlDeviceGetHandleByIndex", index)
            uuid = self.ask("nvmlDeviceGetUUID", handle)
        except NvmlCallError:
            return
        minor = self._ask_or_none("nvmlDeviceGetMinorNumber", handle)
        yield Device(str(index), uuid, minor=minor, instances=self._instances(handle, index))

    def _instances(self, handle: object, index: int) -> tuple[Device, ...]:
        modes = self._ask_or_none("nvmlDeviceGetMigMode", handle)
        if not modes or modes[0] != _MIG_ENABLED:
            return ()
        instances = []
        for number in range(self._ask_or_none("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
            instance = self._ask_or_none("nvmlDeviceGetMigDeviceHandleByIndex", handle, number)
            uuid = instance and self._ask_or_none("nvmlDeviceGetUUID", instance)
            if uuid:  # gaps in the numbering are usual
                instances.append(Device(f"{index}:{number}", uuid))
        return tuple(instances)

    def _ask_or_none(self, function: str, *arguments: object) -> Any:
        try:
            return self.ask(function, *arguments)
        except NvmlCallError:
            return None


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
