"""Writes RESOURCE_STATUS for each running eval: its GPUs, from the end of its CSV, and its progress."""

from __future__ import annotations

import os
from collections.abc import Mapping

from evalmon_agent.evidence.gpu_csv import parse
from evalmon_agent.evidence.gpu_measure import last_tick
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.logbook import blocks
from evalmon_agent.settings import Settings
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.words.states import State

_STALE_INTERVALS = 3


def resource_blocks(
    state: ExperimentState, settings: Settings, *, now: float, progress: Mapping[str, EvalResult]
) -> list[list[str]]:
    """One block for each running eval whose CSV has recent numbers."""
    new = []
    files = OwnedFiles(os.geteuid())
    for ev in state.evals.values():
        if ev.state is not State.RUNNING or ev.output_dir is None:
            continue
        tail = files.read_tail(os.path.join(ev.output_dir, "gpu_metrics.csv"))
        tick = last_tick(parse(tail).rows) if tail is not None else None
        if tick is None or now - tick.at > _STALE_INTERVALS * settings.sample_interval:
            continue
        if tick.utilization_pct is None or tick.memory_used_mib is None or not tick.memory_total_mib:
            continue
        new.append(
            blocks.resource_status(
                now,
                ev.name,
                utilization_pct=tick.utilization_pct,
                memory_used_mib=tick.memory_used_mib,
                memory_total_mib=tick.memory_total_mib,
                so_far=progress.get(ev.name),
            )
        )
    return new
