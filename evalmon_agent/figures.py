"""Computes the efficiency figures of an attempt, and advises what the next round should ask for. Pure.

Figures are seff's, sacct's or the job's own. Thresholds for GPUs are those of Princeton's jobstats: at 0 % for more
than 300 s a GPU was not used; a mean of 15 % or less is red there, of 25 % or less orange; below 15 % and 10 GB a MIG
slice would do. To ask for less is advised only to successful evals: what a failed one would have needed is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.seff import MEASURED_AFTER_S, SeffReport
from evalmon_agent.words.durations import clock
from evalmon_agent.words.sizes import human_bytes
from evalmon_agent.words.states import State

if TYPE_CHECKING:
    from evalmon_agent.evidence.gpu_figures import GpuFigures

Source = Literal["seff", "sacct", "self"]

_NOT_OVER = frozenset({State.PENDING, State.RUNNING, State.SUSPENDED})

UNUSED_AFTER_S = 300.0
RED_PCT = 15.0
ORANGE_PCT = 25.0
SLICE_BYTES = 10 * 1024**3

# What is over so soon was busy with its own start.
_MEASURED_FROM_S = 60.0

# A sampler that ended early does not speak for what came after.
_COVERED = 0.8

_MEMORY_NEAR = 0.9
_MEMORY_FAR = 0.5
_MEMORY_WORTH_BYTES = 1024**3
_TIME_FAR = 0.5
_TIME_WORTH_S = 600.0
_CPU_FAR = 0.5

_LARGEST = 1e15

# A proposal leaves this much room above what was used, in steps that people write.
_ROOM = 1.25
_MEMORY_STEP_BYTES = 1024**3
_TIME_STEP_S = 300


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one attempt; an unknown one is None, never 0. Percent, two decimals."""

    elapsed_s: float | None = None
    time_limit_s: float | None = None
    time_efficiency_pct: float | None = None
    cpu_efficiency_pct: float | None = None
    memory_used_bytes: int | None = None
    memory_requested_bytes: int | None = None
    memory_efficiency_pct: float | None = None
    source: Source | None = None


def from_seff(report: SeffReport, *, time_limit_s: float | None) -> Figures:
    """The figures that seff prints, with its percentages; the limit, which it does not print, is the caller's."""
    limit_s = report.time_limit_s if time_limit_s is None else time_limit_s
    used, requested = report.mem_utilized_bytes or None, report.mem_requested_bytes or None
    return Figures(
        elapsed_s=report.wall_clock_s,
        time_limit_s=limit_s,
        time_efficiency_pct=_percent(report.wall_clock_s, limit_s),
        cpu_efficiency_pct=report.cpu_efficiency_pct if report.core_walltime_s != 0 else None,
        memory_used_bytes=used,
        memory_requested_bytes=requested,
        memory_efficiency_pct=None if used is None or requested is None else report.mem_efficiency_pct,
        source="seff",
    )


def from_sacct(job: SacctJob) -> Figures:
    """The same figures as seff's, by its formulas; usage only once the attempt is over (0 until then)."""
    over = job.state not in _NOT_OVER
    used = job.memory_used_bytes if over else None
    cpu_s = job.total_cpu_s if over else None
    if not cpu_s and used is None and (job.elapsed_s or 0) >= MEASURED_AFTER_S:
        cpu_s = None
    core_s = None if job.cpus is None or job.elapsed_s is None else job.cpus * job.elapsed_s
    return Figures(
        elapsed_s=job.elapsed_s,
        time_limit_s=job.time_limit_s,
        time_efficiency_pct=_percent(job.elapsed_s, job.time_limit_s),
        cpu_efficiency_pct=_percent(cpu_s, core_s),
        memory_used_bytes=used,
        memory_requested_bytes=job.memory_requested_bytes,
        memory_efficiency_pct=_percent(used, job.memory_requested_bytes),
        source="sacct",
    )


def from_self(*, elapsed_s: float | None, time_limit_s: float | None) -> Figures:
    """The figures that the job itself reported, if Slurm keeps no accounting."""
    return Figures(
        elapsed_s=elapsed_s,
        time_limit_s=time_limit_s,
        time_efficiency_pct=_percent(elapsed_s, time_limit_s),
        source="self",
    )


def sampled_memory_note(used_bytes: int | None, requested_bytes: int | None) -> str:
    """On the memory of what ran out of it, where the figure does not show that; "" where it does.

    slurm.conf(5): JobAcctGatherFrequency, 30 s by default, says how often Slurm looks.
    """
    if used_bytes is None or requested_bytes is None or not 0 <= used_bytes < requested_bytes:
        return ""
    share = f"{100 * used_bytes / requested_bytes:.0f}% of the request"
    return f"the memory figure ({share}) is sampled and missed the peak, which reached the limit"


def with_limit(figures: Figures, time_limit_s: float | None) -> Figures:
    """The figures with a limit that somebody else knew, where accounting has none (`Partition_Limit`)."""
    if figures.time_limit_s is not None or time_limit_s is None:
        return figures
    share = _percent(figures.elapsed_s, time_limit_s)
    return replace(figures, time_limit_s=time_limit_s, time_efficiency_pct=share)


def _percent(part: float | None, whole: float | None) -> float | None:
    if part is None or whole is None or whole <= 0:
        return None
    return round(100 * part / whole, 2)


_FIGURES = attrgetter(*(field.name for field in fields(Figures)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """What an attempt had and used; None: unknown."""

    state: State
    succeeded: bool
    """Nothing contradicts its success."""
    figures: Figures
    elapsed_s: float | None = None
    time_limit_s: float | None = None
    cpus: int | None = None
    nodes: str | None = None
    """As Slurm prints them; --mem is per node."""
    gpu: GpuFigures | None = None


def advise(use: Use) -> list[str]:
    """One line for each resource that the next round should request differently."""
    return [*_time(use), *_memory(use), *_gpu(use), *_cpu(use)] if _can_be(use) else []


def _can_be(use: Use) -> bool:
    """Whether no number is negative or absurd; a state file may contain any."""
    gpu = () if use.gpu is None else use.gpu.values()
    values = (*_FIGURES(use.figures), *gpu, use.elapsed_s, use.time_limit_s, use.cpus)
    return all(0 <= value <= _LARGEST for value in values if isinstance(value, int | float))


def _time(use: Use) -> Iterator[str]:
    if use.state is State.TIMEOUT:
        yield "Time limit exceeded: increase the eval's time limit"
        return
    used, limit = use.elapsed_s, use.time_limit_s
    if not _is_over_well(use) or used is None or limit is None:
        return
    proposed = _rounded(used * _ROOM, _TIME_STEP_S)
    if used <= _TIME_FAR * limit and limit - proposed >= _TIME_WORTH_S:
        yield f"Time: took {clock(used)} of {clock(limit)}; --time={clock(proposed)} would do, and start sooner"


def _memory(use: Use) -> Iterator[str]:
    used, asked = use.figures.memory_used_bytes, use.figures.memory_requested_bytes
    if use.state is State.OUT_OF_MEMORY:
        note = sampled_memory_note(used, asked)
        yield f"Memory limit exceeded: increase the eval's --mem{f'; {note}' if note else ''}"
        return
    if not used or not asked:
        return
    of = f"Memory: used {human_bytes(used)} of {human_bytes(asked)}"
    proposed = _rounded(used * _ROOM, _MEMORY_STEP_BYTES)
    if used >= _MEMORY_NEAR * asked:
        yield f"{of}, close to the limit; ask for more, such as {_mem(use, proposed)}"
    elif _is_over_well(use) and used <= _MEMORY_FAR * asked and asked - proposed >= _MEMORY_WORTH_BYTES:
        yield f"{of}; {_mem(use, proposed)} would do"


def _gpu(use: Use) -> Iterator[str]:
    gpu, length_s = use.gpu, use.elapsed_s or 0.0
    if gpu is None or gpu.utilization_mean_pct is None or not _is_covered(gpu):
        return
    if gpu.utilization_max_pct == 0:
        idle_s = gpu.longest_idle_s or 0.0
        if idle_s > UNUSED_AFTER_S and idle_s >= _COVERED * length_s:
            them = "the GPU" if gpu.count == 1 else f"its {gpu.count} GPUs" if gpu.count else "its GPUs"
            yield f"GPU: did not use {them} (0% for {clock(idle_s)}); ask for none, or find out why"
    elif gpu.unused_count and gpu.count and length_s > UNUSED_AFTER_S:
        busy = gpu.count - gpu.unused_count
        yield f"GPU: did not use {gpu.unused_count} of its {gpu.count} GPUs (0% for {clock(length_s)}); ask for {busy}"
    elif use.state is State.COMPLETED and length_s >= _MEASURED_FROM_S:
        yield from _little_used(gpu, gpu.utilization_mean_pct)


def _is_covered(gpu: GpuFigures) -> bool:
    """Whether enough of the expected samples are there; True if their number is unknown."""
    return gpu.samples_expected is None or gpu.samples >= _COVERED * gpu.samples_expected


def _little_used(gpu: GpuFigures, mean_pct: float) -> Iterator[str]:
    if mean_pct < RED_PCT and _fits_a_slice(gpu):
        peak = human_bytes(gpu.memory_peak_bytes)
        yield f"GPU: {mean_pct:.0f}% busy on average (red), at most {peak} of its memory; a MIG slice would do"
    elif mean_pct <= ORANGE_PCT:
        colour = "red" if mean_pct <= RED_PCT else "orange"
        yield f"GPU: {mean_pct:.0f}% busy on average ({colour}); larger batches or more connections may fill it"


def _fits_a_slice(gpu: GpuFigures) -> bool:
    """One whole GPU, of which a slice would have been enough; what has no more memory than a slice may be one."""
    peak, whole = gpu.memory_peak_bytes, gpu.memory_total_bytes
    return gpu.count == 1 and peak is not None and whole is not None and peak < SLICE_BYTES and whole > 2 * SLICE_BYTES


def _cpu(use: Use) -> Iterator[str]:
    pct, cpus = use.figures.cpu_efficiency_pct, use.cpus
    if not _is_over_well(use) or pct is None or cpus is None or pct > 100 * _CPU_FAR:
        return
    used = pct / 100 * cpus
    proposed = max(1, math.ceil(used * _ROOM))
    if proposed < cpus:
        yield f"CPU: kept {used:.1f} of {cpus} cores busy; {proposed} would do"


def _is_over_well(use: Use) -> bool:
    """Whether it succeeded and ran long enough, so that its use shows what such an eval needs."""
    return use.state is State.COMPLETED and use.succeeded and (use.elapsed_s or 0.0) >= _MEASURED_FROM_S


def _rounded(value: float, step: int) -> int:
    return math.ceil(value / step) * step


def _mem(use: Use, size: int) -> str:
    number = size // 1024**3
    return f"{number} GB in all" if set(use.nodes or "") & set(",[") else f"--mem={number}G"
