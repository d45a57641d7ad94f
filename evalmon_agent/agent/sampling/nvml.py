"""Calls NVML, and is the only importer of pynvml: lists this node's devices, and translates errors into cells.

NVML is initialised once and not forked afterwards; every call may hang, so all of this happens in the worker's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from evalmon_agent.words.csv_columns import NO_VALUE

from .gpu_rows import Device

_MIG_ENABLED = 1


class NvmlMissingError(Exception):
    """NVML cannot be used on this node; the message says why."""


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
        NvmlMissingError: no module, library or driver, or their versions differ.
    """

    def __init__(self) -> None:
        try:
            import pynvml  # noqa: PLC0415 (only in the sampler of a job that may have GPUs)
        except ImportError as error:
            raise NvmlMissingError(f"the module pynvml cannot be imported ({error})") from error
        self.module: Any = pynvml
        self._no_value = {
            self.module.NVML_ERROR_NOT_SUPPORTED: NO_VALUE,
            self.module.NVML_ERROR_FUNCTION_NOT_FOUND: NO_VALUE,
            self.module.NVML_ERROR_INVALID_ARGUMENT: NO_VALUE,
            self.module.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: NO_VALUE,
            self.module.NVML_ERROR_NO_PERMISSION: "[Insufficient Permissions]",
        }
        self._lost = {
            self.module.NVML_ERROR_GPU_IS_LOST: "[GPU is lost]",
            self.module.NVML_ERROR_RESET_REQUIRED: "[GPU requires reset]",
        }
        try:
            self.ask("nvmlInit")
        except NvmlCallError as error:
            raise NvmlMissingError(f"NVML: {error.__cause__ or error}") from error

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
            raise self.meaning_of(error.value, error) from error

    def meaning_of(self, code: int, error: object = "") -> Exception:
        """The exception for an NVML return code."""
        if code in self._lost:
            return LostError(self._lost[code])
        if code in self._no_value:
            return NoValueError(self._no_value[code])
        return FailedError(f"{error or self.module.NVMLError(code)}")

    def devices(self, uuids: Iterable[str] = ()) -> list[Device]:
        """The devices that NVML shows, by index, and those of `uuids` that have a handle but no index.

        Raises:
            FailedError: NVML cannot even count devices.
        """
        try:
            count = self.ask("nvmlDeviceGetCount")
        except (NoValueError, LostError) as error:
            raise FailedError(str(error)) from error
        devices = [device for index in range(count) for device in self._device_at(index)]
        uuids_shown = {unit.uuid for device in devices for unit in (device, *device.instances)}
        for uuid in uuids:
            if uuid not in uuids_shown:
                devices += self._device_named(uuid)
        return devices

    def handle(self, device: Device) -> Any:
        """The handle of a device or instance, by its UUID, since indices move when a GPU is lost.

        Raises:
            NvmlCallError: as its kinds say.
        """
        return self.ask("nvmlDeviceGetHandleByUUID", device.uuid)

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
        yield Device(
            str(index),
            uuid,
            minor=self._ask_or_none("nvmlDeviceGetMinorNumber", handle),
            instances=self._instances(handle, index),
        )

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

    def _device_named(self, uuid: str) -> Iterator[Device]:
        handle = self._ask_or_none("nvmlDeviceGetHandleByUUID", uuid)
        if handle is None:
            return
        whole = self._ask_or_none("nvmlDeviceGetUUID", handle) or uuid
        index = self._ask_or_none("nvmlDeviceGetIndex", handle)
        yield Device(str(index or 0), whole, minor=self._ask_or_none("nvmlDeviceGetMinorNumber", handle))

    def _ask_or_none(self, function: str, *arguments: object) -> Any:
        try:
            return self.ask(function, *arguments)
        except NvmlCallError:
            return None
