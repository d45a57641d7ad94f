"""How well did an attempt use what it had: the figures, whoever they come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Source = Literal["seff", "sacct", "self"]


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one attempt; one that nobody knows is None, never 0. Percent, two decimals."""

    elapsed_s: float | None = None
    time_limit_s: float | None = None
    time_efficiency_pct: float | None = None
    cpu_efficiency_pct: float | None = None
    memory_used_bytes: int | None = None
    memory_requested_bytes: int | None = None
    memory_efficiency_pct: float | None = None
    source: Source | None = None
