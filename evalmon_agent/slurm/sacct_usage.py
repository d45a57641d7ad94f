"""What did an attempt have and use: the figures in sacct's columns, of a job row and its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from evalmon_agent.slurm.sacct_rows import Row
from evalmon_agent.words import durations, sizes
from evalmon_agent.words.numbers import count

_T = TypeVar("_T")


def cpus(row: Row) -> int | None:
    """The allocated CPUs; Slurm counts threads, as seff does."""
    return count(row.get("AllocCPUS", "")) or count(_allocated(row).get("cpu", ""))


def nodes(row: Row) -> int | None:
    """The allocated nodes."""
    return count(row.get("NNodes", "")) or count(_allocated(row).get("node", ""))


def gpus(row: Row) -> int | None:
    """The allocated GPUs; None also where the cluster does not account for them.

    `gres/gpu:a100=1,gres/gpu=1` is one GPU: the typed counts matter only without the plain one.
    """
    allocated = _allocated(row)
    plain = count(allocated.get("gres/gpu", ""))
    typed = _known(count, (value for key, value in allocated.items() if key.startswith("gres/gpu:")))
    return sum(typed) if plain is None and typed else plain


def total_cpu_s(row: Row, steps: Sequence[Row]) -> float | None:
    """CPU seconds of the job row, which is the sum of its steps; that sum where the row says 0."""
    whole = durations.parse(row.get("TotalCPU", ""))
    if whole:
        return whole
    parts = _known(durations.parse, (step.get("TotalCPU", "") for step in steps))
    return sum(parts) if parts else whole


def memory_used_bytes(rows: Iterable[Row]) -> int | None:
    """The largest step's; no process uses nothing, so a 0 says that nobody looked (host OOM, short jobs)."""
    return max((used for row in rows if (used := _step_memory(row))), default=None)


def memory_requested_bytes(row: Row) -> int | None:
    """What the job was given; None for `--mem=0`, all that the nodes have: how much is not said."""
    allocated = sizes.parse_sacct(_allocated(row).get("mem", ""))
    if allocated:
        return allocated
    size, per = sizes.parse_requested(row.get("ReqMem", "")) or (None, None)
    times = {None: 1, "cpu": cpus(row), "node": nodes(row)}[per]
    return None if not size or times is None else size * times


def _step_memory(row: Row) -> int | None:
    total = sizes.parse_sacct(_tres(row.get("TRESUsageInTot", "")).get("mem", ""))
    if total:
        return total
    largest = sizes.parse_sacct(row.get("MaxRSS", ""))
    if not largest:
        largest = sizes.parse_sacct(_tres(row.get("TRESUsageInMax", "")).get("mem", ""))
    # MaxRSS is one task's: eight tasks of 1.9 GB need 14.9 GB.
    return None if largest is None else largest * (count(row.get("NTasks", "")) or 1)


def _allocated(row: Row) -> dict[str, str]:
    return _tres(row.get("AllocTRES", ""))


def _tres(text: str) -> dict[str, str]:
    return {key: value for key, equals, value in (part.partition("=") for part in text.split(",")) if equals}


def _known(parse_one: Callable[[str], _T | None], texts: Iterable[str]) -> list[_T]:
    return [value for value in map(parse_one, texts) if value is not None]
