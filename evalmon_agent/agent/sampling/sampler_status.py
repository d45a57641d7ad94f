"""Keeps the sampler's status for the job's report, where `run` finds it even if the sampler is killed.

A page of memory shared with `run`: nothing to drain, nothing to wait for, the present counts at any time. Lines of
`name value`; neither side needs json for it.
"""

from __future__ import annotations

import mmap
from typing import Any

_PAGE_BYTES = 4096
_TEXT_CHARACTERS = 300
_TROUBLES_AT_MOST = 8
_AS_TOLD = "SIGTERM"

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
TEXTS = ("not_sampled", "gpu_source", "no_gpu_file", "no_host_file", "host_source", "ended")


class SamplerStatus:
    """Counters and reasons of one sampler."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTS, 0)
        self.texts: dict[str, str] = {}
        self.troubles: list[str] = []

    def count(self, name: str, number: int = 1) -> None:
        """Increase the counter `name`."""
        self.counts[name] += number

    def trouble(self, text: str) -> None:
        """Record a problem, once; at most a handful are kept."""
        text = one_line(text)
        if text not in self.troubles and len(self.troubles) < _TROUBLES_AT_MOST:
            self.troubles.append(text)

    def to_bytes(self) -> bytes:
        """Lines of `name value`; as many as fit on the page."""
        lines = [f"{name} {number}" for name, number in self.counts.items()]
        lines += [f"{name} {one_line(text)}" for name, text in self.texts.items()]
        lines += [f"trouble {text}" for text in self.troubles]
        data = b""
        for line in lines:
            added = line.encode("utf-8", "replace") + b"\n"
            if len(data) + len(added) < _PAGE_BYTES:
                data += added
        return data


class StatusPage:
    """The shared page. Make it before the fork."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _PAGE_BYTES)

    def show(self, status: SamplerStatus) -> None:
        """Write the present `status` to the page."""
        self._memory[:] = status.to_bytes().ljust(_PAGE_BYTES, b"\0")

    def content(self) -> bytes:
        """The present content; empty if the sampler has written nothing."""
        return self._memory[:].rstrip(b"\0")


def parse(data: bytes) -> dict[str, Any]:
    """The `sampler` entry of the job's report: counts, texts, `troubles`; what cannot be read is left out."""
    entry: dict[str, Any] = {"troubles": []}
    for line in data.decode("utf-8", "replace").split("\n")[:-1]:
        name, _, value = line.partition(" ")
        if name in COUNTS and value.isdigit():
            entry[name] = int(value)
        elif name in TEXTS:
            entry[name] = value
        elif name == "trouble":
            entry["troubles"].append(value)
    return entry


def notes_of(entry: dict[str, Any]) -> list[str]:
    """The problems for the report's notes; having no GPU is not a problem."""
    notes = [f"sampler: {trouble}" for trouble in entry["troubles"]]
    ended = entry.get("ended", "")
    if not entry.get("not_sampled") and ended != _AS_TOLD:
        notes.append(f"sampler: {ended or 'ended without a word'}")
    return notes


def one_line(text: str) -> str:
    """Printable, on one line, of sane length."""
    return "".join(character if character.isprintable() else " " for character in text[:_TEXT_CHARACTERS])
