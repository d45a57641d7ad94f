"""Measures a sidecar's peak memory, CPU and polls from outside."""

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench_parts.processes import memory_of

_LOOK_S = 0.2


@dataclass(frozen=True)
class Mark:
    """The sidecar at one time: its own CPU time, that of its commands, and the experiment's polls."""

    at: float
    cpu_s: float
    commands_cpu_s: float
    polls: int


class SidecarWatch(threading.Thread):
    """Samples the sidecar of one experiment five times a second, once there is one."""

    def __init__(self, experiment: Path) -> None:
        super().__init__(daemon=True)
        self._experiment = experiment
        self._over = threading.Event()
        self._process: psutil.Process | None = None
        self.peak_pss_mib = 0.0

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._over.wait(_LOOK_S):
            try:
                self._process = self._process or self._find()
                if self._process is not None:
                    self.peak_pss_mib = max(self.peak_pss_mib, memory_of(self._process.pid)[0])
            except (OSError, KeyError, psutil.Error):
                self._process = None

    def stop(self) -> None:
        """Stop sampling."""
        self._over.set()
        self.join()

    def mark(self) -> Mark | None:
        """The current sample; None while there is no sidecar."""
        process = self._process
        try:
            polls = json.loads((self._experiment / "evalmon/observer.json").read_text())["polls"]
            taken = process.cpu_times() if process is not None else None
        except (OSError, ValueError, psutil.Error):
            return None
        if taken is None:
            return None
        commands_s = taken.children_user + taken.children_system
        return Mark(time.time(), taken.user + taken.system, commands_s, polls)

    def _find(self) -> psutil.Process | None:
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "sidecar" in words and words[-1] == str(self._experiment):
                return process
        return None
