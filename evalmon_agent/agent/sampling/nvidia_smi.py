"""The job's GPUs by nvidia-smi, run once a tick: where NVML cannot be loaded but nvidia-smi works all the same."""

import os
import select
import time

from evalmon_agent.agent.light import signal

from . import gpu_rows
from .devices import Device
from .gpu_source import GpuTick

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PROGRAM = "nvidia-smi"
_FIELDS = tuple(header.partition(" [")[0] for header in gpu_rows.NVIDIA_SMI_COLUMNS)
_QUERY = [_PROGRAM, f"--query-gpu={','.join(_FIELDS)},index,uuid", "--format=csv,noheader"]
# Without persistence mode it starts the driver first, which takes seconds.
_WITHIN_S = 20.0
_OUTPUT_BYTES_AT_MOST = 1 << 20
_PASSING = frozenset({"[Unknown Error]", "[Timeout]"})


class NvidiaSmi:
    """nvidia-smi as a source of rows."""

    name = _PROGRAM

    def __init__(self) -> None:
        self.devices_wanted: Sequence[Device] = ()
        self.running_pid = 0

    @property
    def count(self) -> int:
        """How many GPUs are the job's."""
        return len(self.devices_wanted)

    def devices(self) -> list[Device]:
        """What it shows; empty if it is not there or fails. It does not tell minors: they are the indices mostly."""
        return [
            Device(cells[-2], cells[-1], minor=int(cells[-2]) if cells[-2].isdigit() else None)
            for cells in self._query()
        ]

    def tick(self) -> GpuTick:
        """All GPUs at one moment."""
        tick = GpuTick()
        at = gpu_rows.Moment(time.time())
        found = {cells[-1]: cells for cells in self._query()}
        for device in self.devices_wanted:
            cells = found.get(device.uuid)
            if cells is None or not _PASSING.isdisjoint(cells):
                tick.miss("nvidia-smi gave no row" if cells is None else "nvidia-smi: a passing error")
            else:
                tick.add(gpu_rows.row_of_nvidia_smi(device, cells[1 : len(_FIELDS)], at))
        return tick

    def _query(self) -> "list[list[str]]":
        return list(parse(self._output().decode("utf-8", "replace")))

    def _output(self) -> bytes:
        """What it prints, if it ends well and in time."""
        reading, writing = os.pipe()
        try:
            self.running_pid = os.posix_spawn(
                _program(),
                _QUERY,
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)],
                setsigmask=(),
                setsigdef=frozenset(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP},
            )
        except OSError:
            os.close(reading)
            return b""
        finally:
            os.close(writing)
        try:
            output = _read_within(reading, time.monotonic() + _WITHIN_S)
        finally:
            os.close(reading)
        if output is None:
            os.kill(self.running_pid, signal.SIGKILL)
        _, status = os.waitpid(self.running_pid, 0)
        self.running_pid = 0
        return output if output is not None and status == 0 else b""


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


def _read_within(descriptor: int, deadline_s: float) -> bytes | None:
    """All until its end; None if that does not come in time, or never."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    output = b""
    while len(output) < _OUTPUT_BYTES_AT_MOST and (left_s := deadline_s - time.monotonic()) > 0:
        if not poll.poll(left_s * 1000):
            break
        data = os.read(descriptor, 65536)
        if not data:
            return output
        output += data
    return None


def parse(output: str) -> "Iterator[list[str]]":
    """Its rows as cells, the seven columns, index and uuid; what is no such row is left out."""
    for line in output.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(_FIELDS) + 2 and cells[-1].startswith("GPU-") and cells[-2].isdigit():
            yield cells
