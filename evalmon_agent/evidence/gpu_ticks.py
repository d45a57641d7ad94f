"""Groups rows into ticks, the GPUs of one moment, and says which ticks are complete. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from evalmon_agent.evidence.gpu_csv import GpuRow

# nvidia-smi prints the GPUs of one round within milliseconds; its shortest usual interval is 1 s.
_SAME_ROUND_S = 0.5


@dataclass(frozen=True, slots=True)
class Tick:
    """All GPUs of the job at one moment."""

    local_time: datetime
    """As printed, without a zone."""
    unix_s: float | None
    """None in nvidia-smi's own files: there only the local time is known."""
    utilization_pct: float | None
    """Over the GPUs that have one."""
    memory_used_mib: int | None
    memory_total_mib: int | None
    """Sums over the GPUs that have both."""

    @property
    def at(self) -> float:
        """Epoch seconds; of a local time without a zone, by the zone of this process."""
        return self.local_time.timestamp() if self.unix_s is None else self.unix_s


def last_tick(rows: Sequence[GpuRow]) -> Tick | None:
    """The last tick that is complete; None if none is."""
    for rows_of_tick in complete_ticks(rows, newest_first=True):
        return _tick(rows_of_tick)
    return None


def complete_ticks(rows: Sequence[GpuRow], *, newest_first: bool = False) -> Iterator[list[GpuRow]]:
    """The rows of each complete tick.

    No tick beside a bad line is complete. Ours are written at once, so only the last one can lack rows: if
    it has fewer GPUs than the one before, it is left out until the next one has begun. nvidia-smi's rows
    carry no GPU: there the rows of one round lie closer together than the rounds.
    """
    ticks = list(group(rows))
    order = range(len(ticks))
    for at in reversed(order) if newest_first else order:
        before = ticks[at - 1] if at else None
        after = ticks[at + 1] if at + 1 < len(ticks) else None
        if _is_complete(ticks[at], before, after):
            yield ticks[at]


def group(rows: Sequence[GpuRow]) -> Iterator[list[GpuRow]]:
    """The rows tick by tick, complete or not."""
    tick: list[GpuRow] = []
    for row in rows:
        if tick and not _belongs(row, tick):
            yield tick
            tick = []
        tick.append(row)
    if tick:
        yield tick


def elapsed_s(earlier: GpuRow, later: GpuRow) -> float:
    """The time between two rows of one file; negative where a clock was set back or an hour repeats."""
    if earlier.timestamp_unix_s is not None and later.timestamp_unix_s is not None:
        return later.timestamp_unix_s - earlier.timestamp_unix_s
    return (later.local_time - earlier.local_time).total_seconds()


def _belongs(row: GpuRow, tick: Sequence[GpuRow]) -> bool:
    if row.gpu is not None and any(row.gpu == other.gpu for other in tick):
        return False
    if row.timestamp_unix_s is not None or tick[-1].timestamp_unix_s is not None:
        return row.timestamp_unix_s == tick[-1].timestamp_unix_s
    return 0 <= elapsed_s(tick[-1], row) < _SAME_ROUND_S


def _is_complete(tick: Sequence[GpuRow], before: Sequence[GpuRow] | None, after: Sequence[GpuRow] | None) -> bool:
    if any(row.beside_bad_line for row in tick):
        return False
    if tick[0].timestamp_unix_s is None:
        return _is_whole_round(tick, before, after)
    if after or not before:
        return True
    gpus, gpus_before = {row.gpu for row in tick}, {row.gpu for row in before}
    # A requeued job may have got other GPUs.
    return gpus >= gpus_before or gpus.isdisjoint(gpus_before)


def _is_whole_round(tick: Sequence[GpuRow], before: Sequence[GpuRow] | None, after: Sequence[GpuRow] | None) -> bool:
    spread_s = elapsed_s(tick[0], tick[-1])
    if before is None and after is None:
        return spread_s == 0
    # Otherwise these are not rounds, but one GPU that was looked at many times a second.
    if any(0 <= elapsed_s(a[-1], b[0]) <= spread_s for a, b in pairwise([before, tick, after]) if a and b):
        return False
    return after is not None or before is None or len(tick) >= len(before)


def _tick(rows: Sequence[GpuRow]) -> Tick:
    utilizations = [row.utilization_pct for row in rows if row.utilization_pct is not None]
    used_mib, total_mib = memory_sums_mib(rows) or (None, None)
    return Tick(
        local_time=rows[0].local_time,
        unix_s=rows[0].timestamp_unix_s,
        utilization_pct=sum(utilizations) / len(utilizations) if utilizations else None,
        memory_used_mib=used_mib,
        memory_total_mib=total_mib,
    )


def memory_sums_mib(rows: Sequence[GpuRow]) -> tuple[int, int] | None:
    """Used and total memory over the rows that have both; None if no row has."""
    pairs = [
        (row.memory_used_mib, row.memory_total_mib)
        for row in rows
        if row.memory_used_mib is not None and row.memory_total_mib is not None
    ]
    return (sum(used for used, _ in pairs), sum(total for _, total in pairs)) if pairs else None
