"""Looks at the job's GPUs by nvidia-smi, run once a tick, where NVML cannot be loaded but nvidia-smi works."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence

from evalmon_agent.words.csv_columns import NVIDIA_SMI_COLUMNS

from . import gpu_rows
from .gpu_records import Device, Reading
from .gpu_rows import GpuTick

_PROGRAM = "nvidia-smi"
_FIELDS = tuple(column.header.partition(" [")[0] for column in NVIDIA_SMI_COLUMNS)
_QUERY = [_PROGRAM, f"--query-gpu={','.join(_FIELDS)},index,uuid", "--format=csv,noheader"]
# Without persistence mode it starts the driver first, which takes seconds.
_WITHIN_S = 20.0
_PASSING = frozenset({"[Unknown Error]", "[Timeout]"})


class NvidiaSmi:
    """nvidia-smi as a source of rows."""

    name = _PROGRAM

    def __init__(self, devices: Sequence[Device]) -> None:
        """`devices`: the job's."""
        self._devices = devices
        self.count = len(devices)

    def tick(self) -> GpuTick:
        """All GPUs at one moment."""
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


def devices() -> list[Device]:
    """What it shows; empty if it is not there or fails. It does not tell minors: they are the indices mostly."""
    return [Device(cells[-2], cells[-1], minor=int(cells[-2])) for cells in parse(_output())]


def _output() -> str:
    """What it prints, if it ends well and in time."""
    try:
        done = subprocess.run(_QUERY, executable=_program(), stdout=subprocess.PIPE, timeout=_WITHIN_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _program() -> str:
    """Its absolute path: an empty or relative entry of PATH is the eval's directory, where anybody may write.

    Raises:
        FileNotFoundError: it is not on PATH.
    """
    for entry in os.environ.get("PATH", os.defpath).split(":"):
        path = os.path.join(entry, _PROGRAM)
        if entry.startswith("/") and os.access(path, os.X_OK):
            return path
    raise FileNotFoundError(_PROGRAM)


def parse(output: str) -> Iterator[list[str]]:
    """Its rows as cells, the seven columns, index and uuid; what is no such row is left out."""
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(_FIELDS) + 2 and cells[-1].startswith("GPU-") and cells[-2].isdigit():
            yield cells
