"""Describes the simulated machine; NVML answers accordingly from its next call on."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# NVML's error codes (nvml.h).
NOT_SUPPORTED = 3
NO_PERMISSION = 4
DRIVER_NOT_LOADED = 9
LIB_RM_VERSION_MISMATCH = 18
UNKNOWN = 999

# A figure: a number, or steps in seconds since the world began: "0:0 5:100 6:0", repeated with " every=10".
Curve = float | str

_FOR_EVER = 10**9


@dataclass
class Instance:
    """A MIG device: `index` in its GPU is the argument of nvmlDeviceGetMigDeviceHandleByIndex; gaps are usual."""

    index: int
    uuid: str
    gpu_instance_id: int
    name: str = "NVIDIA H100 80GB HBM3 MIG 3g.40gb"
    memory_used_mib: Curve = 1024
    memory_total_mib: Curve = 40192
    memory_reserved_mib: Curve = 0
    utilization: Curve = 0  # of GPM only
    sm_active: Curve = 0
    tensor_active: Curve = 0


@dataclass
class Gpu:
    """A GPU and its figures."""

    uuid: str
    minor: int
    name: str = "NVIDIA H100 80GB HBM3"
    utilization: Curve = 37
    memory_utilization: Curve = 12
    memory_used_mib: Curve = 3984
    memory_total_mib: Curve = 81559
    memory_reserved_mib: Curve = 551
    power_w: Curve = 180.4
    power_limit_w: Curve = 700
    temperature_c: Curve = 44
    sm_clock_mhz: Curve = 1980
    memory_clock_mhz: Curve = 2619
    clocks_event_reasons: Curve = 0
    sm_active: Curve = 30
    tensor_active: Curve = 20
    gpm: bool = True
    lost: bool = False
    mig_max: int = 7
    mig_enabled: bool = False
    instances: list[Instance] = field(default_factory=list)


@dataclass(frozen=True)
class Rule:
    """How calls of one symbol behave: refused with `value` as the error, or delayed by `value` ms, or for ever."""

    kind: str  # error, delay or hang
    symbol: str
    gpu: int = -1  # all
    first: int = 1
    last: int = _FOR_EVER
    value: int | None = None


class World:
    """Two GPUs by default. Methods take effect in NVML at once, changed attributes after `write`.

    Attributes:
        gpus: in NVML's order.
        rules: calls that fail or hang; see refuse, delay, hang.
        log: a file to which every call appends `SYMBOL GPU PID TID` (GPU -1: none), or None.
        cpu: a file in which every process adds up the CPU time that its calls took, or None; see cpu_s.
        epoch: unix seconds; where all curves begin.
        frozen: a process reads this world once and never again, which costs nothing per call.
    """

    def __init__(self, directory: Path, library: Path, *, gpus: int = 2) -> None:
        """`library` is the folder that build() returned; the control file is created in `directory`."""
        self.control = directory / "nvml_standin.control"
        self.library = library
        self.driver = "570.133.20"
        self.epoch = time.time()
        self.frozen = False
        self.log: Path | None = None
        self.cpu: Path | None = None
        self.gpus = [Gpu(uuid=f"GPU-0000000{index}-1111-2222-3333-444455556666", minor=index) for index in range(gpus)]
        self.rules: list[Rule] = []
        self.write()

    def refuse(self, symbol: str, error: int, *, gpu: int = -1, first: int = 1, last: int = _FOR_EVER) -> None:
        """Calls number `first` to `last` (from 1, counted per process since this write) end with `error`."""
        self.rules.append(Rule("error", symbol, gpu, first, last, error))
        self.write()

    def delay(self, symbol: str, ms: int, *, gpu: int = -1, first: int = 1, last: int = _FOR_EVER) -> None:
        self.rules.append(Rule("delay", symbol, gpu, first, last, ms))
        self.write()

    def hang(self, symbol: str, *, gpu: int = -1, first: int = 1, last: int = _FOR_EVER) -> None:
        """Calls do not return until a write without this rule."""
        self.rules.append(Rule("hang", symbol, gpu, first, last))
        self.write()

    def lose(self, gpu: int) -> None:
        self.gpus[gpu].lost = True
        self.write()

    def find_again(self, gpu: int) -> None:
        self.gpus[gpu].lost = False
        self.write()

    def slice_up(self, gpu: int, *indexes: int) -> None:
        """Turn MIG on, with one device at each of `indexes` (below 7)."""
        self.gpus[gpu].mig_enabled = True
        self.gpus[gpu].instances = [
            Instance(index, uuid=f"MIG-0000000{gpu}-000{index}-2222-3333-444455556666", gpu_instance_id=index + 1)
            for index in indexes
        ]
        self.write()

    def write(self) -> None:
        """Apply everything to NVML at once."""
        text = "\n".join(self._lines()) + "\n"
        new = self.control.with_suffix(".new")
        new.write_text(text)
        os.replace(new, self.control)

    def environment(self, base: Mapping[str, str] = os.environ, **more: str) -> dict[str, str]:
        """The variables of a process that uses the stand-in: the loader reads them at its start."""
        path = ":".join(filter(None, (str(self.library), base.get("LD_LIBRARY_PATH"))))
        return {**base, "LD_LIBRARY_PATH": path, "NVML_STANDIN_CONTROL": str(self.control), **more}

    def install_nvidia_smi(self, directory: Path) -> Path:
        """Create `directory`/nvidia-smi, which finds this world without `environment`; the test puts it on PATH."""
        directory.mkdir(parents=True, exist_ok=True)
        program = directory / "nvidia-smi"
        environment = {"LD_LIBRARY_PATH": self.library, "NVML_STANDIN_CONTROL": self.control}
        assignments = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in environment.items())
        script = shlex.join([sys.executable, str(Path(__file__).with_name("nvidia_smi.py"))])
        program.write_text(f'#!/bin/sh\nexec env {assignments} {script} "$@"\n')
        program.chmod(0o755)
        return program

    def cpu_s(self) -> float:
        """Seconds of CPU that all calls used so far, if `cpu` is set: what would be the driver's part."""
        if self.cpu is None or not self.cpu.exists():
            return 0.0
        return int.from_bytes(self.cpu.read_bytes()[:8], sys.byteorder) / 1e9

    def calls(self) -> list[str]:
        """The symbols called so far, if `log` is set."""
        if self.log is None or not self.log.exists():
            return []
        return [line.split()[0] for line in self.log.read_text().splitlines()]

    def _lines(self) -> list[str]:
        lines = [f"epoch {self.epoch:.6f}", f"driver {self.driver}", *([f"log {self.log}"] if self.log else [])]
        lines += [f"cpu {self.cpu}"] if self.cpu else []
        if self.frozen:
            lines.append("frozen")
        for rule in self.rules:
            value = "" if rule.value is None else f" {rule.value}"
            lines.append(f"{rule.kind} {rule.symbol} {rule.gpu} {rule.first} {rule.last}{value}")
        for gpu in self.gpus:
            lines += ["gpu", *_figures(gpu)]
            for instance in gpu.instances:
                lines += [f"instance {instance.index}", *_figures(instance)]
        return lines


def _figures(device: Gpu | Instance) -> list[str]:
    values = {item.name: getattr(device, item.name) for item in dataclasses.fields(device)}
    return [
        f"{name} {int(value) if isinstance(value, bool) else value}"
        for name, value in values.items()
        if name not in {"index", "instances"}
    ]
