"""Counts what a sampler did, and keeps its reasons and problems, for the job's report."""

from __future__ import annotations

import json
import threading
from typing import Any

from evalmon_agent.agent.shared_memory import SharedMemory
from evalmon_agent.words.printable import without_surrogates

from .csv_file import CsvFile

_TEXT_CHARACTERS = 300
_TROUBLES_AT_MOST = 8

COUNTS = (
    "gpus",
    "interval_ms",
    "ticks",
    "missed_ticks",
    "gpu_rows",
    "host_rows",
    "gpu_gaps",
    "host_gaps",
    "dropped_rows",
    "caught",
)


class SamplerStatus:
    """Counters and reasons of one sampler, whose two threads fill them.

    `texts`: not_sampled, gpu_source, no_gpu_file, host_source, ended.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTS, 0)
        self.texts: dict[str, str] = {}
        self.troubles: list[str] = []
        self._lock = threading.Lock()

    def count(self, name: str, number: int = 1) -> None:
        """Increase the counter `name`."""
        with self._lock:
            self.counts[name] += number

    def trouble(self, text: str) -> None:
        """Record a problem, once; at most a handful are kept."""
        text = without_surrogates(text[:_TEXT_CHARACTERS])
        with self._lock:
            if text not in self.troubles and len(self.troubles) < _TROUBLES_AT_MOST:
                self.troubles.append(text)

    def caught(self, error: Exception) -> None:
        """Record an exception that nobody expected."""
        self.count("caught")
        self.trouble(f"{type(error).__name__}: {error}")

    def append(self, rows: bytes, file: CsvFile, counter: str) -> None:
        """Append whole rows to a file and count them, or what kept them from being written."""
        number = rows.count(b"\n")
        if file.append(rows):
            self.count(counter, number)
        elif file.is_turn:
            self.count("dropped_rows", number)
            self.trouble(file.trouble)
        else:
            self.trouble("another sampler is writing to this directory; waited for it")

    def entry(self) -> dict[str, Any]:
        """The `sampler` entry of the job's report."""
        with self._lock:
            texts = {name: text[:_TEXT_CHARACTERS] for name, text in self.texts.copy().items()}
            return {**self.counts, **texts, "troubles": self.troubles.copy()}

    def show(self, shared: SharedMemory) -> None:
        """Put the present entry, as JSON, where `run` finds it even if the sampler is killed."""
        shared.put(json.dumps(self.entry()).encode())
