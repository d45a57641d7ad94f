"""What the GPUs did, and what the next round should ask for: two sections of summary.md. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.summary.cells import cell, table
from evalmon_agent.summary.records import EvalSummary
from evalmon_agent.words.durations import clock
from evalmon_agent.words.sizes import human_bytes, number

_HEAD = [
    "Evaluation",
    "GPUs",
    "Busy: mean / p95 / max",
    "At 0% / below 5%",
    "Longest idle",
    "First use",
    "Memory: peak / total",
    "Power",
    "Energy",
    "Near cap / throttled",
    "Samples",
]


def gpu_section(evals: Sequence[EvalSummary]) -> list[str]:
    """A row for each eval whose GPUs were sampled; no section if none was."""
    rows = [[cell(ev.name), *_cells(ev.gpu)] for ev in evals if ev.gpu is not None]
    return ["## GPUs", table(_HEAD, rows)] if rows else []


def advice_section(evals: Sequence[EvalSummary]) -> list[str]:
    """What those that went well should ask for; of the others it stands with what went wrong."""
    lines = [
        f"* **{cell(ev.name)}**: {'; '.join(map(cell, ev.advice))}" for ev in evals if ev.verdict == "ok" and ev.advice
    ]
    return ["## For the next round", "\n".join(lines)] if lines else []


def _cells(gpu: GpuFigures) -> list[str]:
    busy = (gpu.utilization_mean_pct, gpu.utilization_p95_pct, gpu.utilization_max_pct)
    return [
        number(gpu.count),
        " / ".join(number(pct, "%") for pct in busy),
        f"{_share(gpu.idle_fraction)} / {_share(gpu.below_5_pct_fraction)}",
        clock(gpu.longest_idle_s),
        "never" if gpu.utilization_max_pct == 0 else clock(gpu.first_use_s),
        f"{human_bytes(gpu.memory_peak_bytes)} / {human_bytes(gpu.memory_total_bytes)}",
        number(gpu.power_mean_w, " W"),
        number(None if gpu.energy_j is None else gpu.energy_j / 1000, " kJ", digits=1),
        f"{_share(gpu.near_power_cap_fraction)} / {_share(gpu.throttled_fraction)}",
        f"{number(gpu.samples)} of {number(gpu.samples_expected)}",
    ]


def _share(fraction: float | None) -> str:
    return number(None if fraction is None else 100 * fraction, "%")
