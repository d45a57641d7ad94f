"""Calls NVML, and is the only importer of pynvml: lists this node's devices, and translates errors into cells.

NVML is initialised once and not forked afterwards; every call may hang, so all of this happens in the GPUs' thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from evalmon_agent.words.csv_columns import NO_VALUE

_MIG_ENABLED = 1


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
        """The device, or None without a handle: then it belongs to another job, or is lost."""
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
