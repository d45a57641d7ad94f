"""Computes the efficiency figures of an attempt from seff, sacct or its own report. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.seff import MEASURED_AFTER_S, SeffReport
from evalmon_agent.words.states import State

Source = Literal["seff", "sacct", "self"]

_NOT_OVER = frozenset({State.PENDING, State.RUNNING, State.SUSPENDED})


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
