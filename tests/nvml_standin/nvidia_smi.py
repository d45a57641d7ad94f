"""A stand-in for `nvidia-smi --query-gpu=... --format=csv`, which asks NVML as the real one does.

    nvidia-smi --query-gpu=FIELD,... --format=csv[,noheader][,nounits] [-i GPU,...] [-l S | -lms MS] [-f FILE]

World.install_nvidia_smi puts it on a PATH.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

import pynvml as nvml

MIB = 2**20


def _memory(handle: object) -> Any:
    try:
        return nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    except nvml.NVMLError_FunctionNotFound:
        return nvml.nvmlDeviceGetMemoryInfo(handle)


# The header, unit and source of each field.
FIELDS: dict[str, tuple[str, Callable[[object], object]]] = {
    "timestamp": ("", lambda _: datetime.now().strftime("%Y/%m/%d %H:%M:%S.%f")[:-3]),  # noqa: DTZ005 (local time)
    "index": ("", nvml.nvmlDeviceGetIndex),
    "uuid": ("", nvml.nvmlDeviceGetUUID),
    "name": ("", nvml.nvmlDeviceGetName),
    "driver_version": ("", lambda _: nvml.nvmlSystemGetDriverVersion()),
    "utilization.gpu": ("%", lambda handle: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
    "utilization.memory": ("%", lambda handle: nvml.nvmlDeviceGetUtilizationRates(handle).memory),
    "memory.used": ("MiB", lambda handle: _memory(handle).used // MIB),
    "memory.total": ("MiB", lambda handle: _memory(handle).total // MIB),
    "power.draw": ("W", lambda handle: f"{nvml.nvmlDeviceGetPowerUsage(handle) / 1000:.2f}"),
    "power.limit": ("W", lambda handle: f"{nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000:.2f}"),
    "temperature.gpu": ("", lambda handle: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
    "clocks.sm": ("MHz", lambda handle: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
}

CELLS_OF_ERRORS = {
    nvml.NVML_ERROR_NOT_SUPPORTED: "[N/A]",
    nvml.NVML_ERROR_NO_PERMISSION: "[Insufficient Permissions]",
    nvml.NVML_ERROR_GPU_IS_LOST: "[GPU is lost]",
    nvml.NVML_ERROR_RESET_REQUIRED: "[GPU requires reset]",
}

BROKEN = {
    nvml.NVML_ERROR_DRIVER_NOT_LOADED: (
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. "
        "Make sure that the latest NVIDIA driver is installed and running.\n"
    ),
    nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "Failed to initialize NVML: Driver/library version mismatch",
}


def main(words: list[str]) -> NoReturn:
    options = _options(words)
    fields = options["--query-gpu"].split(",")
    for field in fields:
        if field not in FIELDS:
            _leave(2, f'Field "{field}" is not a valid field to query.\n')
    try:
        nvml.nvmlInit()
        gpus = _gpus(options.get("-i"))
    except nvml.NVMLError as error:
        _leave(error.value % 256, BROKEN.get(error.value, f"Failed to initialize NVML: {error}"))
    if not gpus:
        _leave(6, "No devices were found")
    _print(options, fields, gpus)
    sys.exit(0)


def _print(options: dict[str, str], fields: list[str], gpus: list[object]) -> None:
    out = open(options["-f"], "w") if "-f" in options else sys.stdout  # noqa: SIM115 (until the end)
    formats = options["--format"].split(",")
    if "noheader" not in formats:
        units = {name: f" [{unit}]" if unit and "nounits" not in formats else "" for name, (unit, _) in FIELDS.items()}
        print(", ".join(f"{name}{units[name]}" for name in fields), file=out)
    every_s = float(options.get("-l", 0)) or float(options.get("-lms", 0)) / 1000
    while True:
        for gpu in gpus:
            print(", ".join(_cell(field, gpu, has_unit="nounits" not in formats) for field in fields), file=out)
        out.flush()
        if not every_s:
            return
        time.sleep(every_s)


def _cell(field: str, gpu: object, *, has_unit: bool) -> str:
    unit, get = FIELDS[field]
    try:
        value = get(gpu)
    except nvml.NVMLError as error:
        return CELLS_OF_ERRORS.get(error.value, "[Unknown Error]")
    return f"{value} {unit}" if unit and has_unit else str(value)


def _gpus(wanted: str | None) -> list[object]:
    if wanted is None:
        return [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    return [
        nvml.nvmlDeviceGetHandleByIndex(int(word)) if word.isdigit() else nvml.nvmlDeviceGetHandleByUUID(word)
        for word in wanted.split(",")
    ]


def _options(words: list[str]) -> dict[str, str]:
    options = {"-l": "0", "--format": "csv"}
    long_names = {"--loop": "-l", "--loop-ms": "-lms", "--id": "-i", "--filename": "-f"}
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        name = long_names.get(name, name)
        if name not in {"--query-gpu", "--format", "-i", "-l", "-lms", "-f"}:
            _leave(2, f"Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n\n{name}")
        options[name] = value if equals else rest.pop(0)
    return options


def _leave(status: int, message: str) -> NoReturn:
    print(message)
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
