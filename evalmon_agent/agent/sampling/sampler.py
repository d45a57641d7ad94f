"""A sampler from its first to its last breath: placed out of everybody's way, then the loop, then gone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from evalmon_agent.agent.ending import forbid_core_dumps

from . import host_source, own_sampling, placement, whose_gpus
from .bell import Bell
from .loop import Loop, Plan
from .record import Record
from .seen import Seen

DEFAULT_INTERVAL_S = 30.0

# Slurm may let a job run on for a while (OverTimeLimit, KillWait).
_SLACK_S = 600.0
_NICE = 19

# So long we wait for a script that samples itself before we believe that it does not this time.
_HELD_INTERVALS = 3


def live(
    directory: str,
    *,
    interval_s: float,
    environ: Mapping[str, str],
    root: int,
    life: int,
    show: Callable[[Record], None],
    script: str | None = None,
) -> Record:
    """Sample into `directory` until there is a reason to end. The caller leaves the process at once, by os._exit.

    Args:
        directory: absolute; made where it is missing.
        interval_s: from tick to tick.
        environ: as it was at the start.
        root: the process whose tree is the job's where there is no cgroup.
        life: a pipe whose other end the parent holds, or -1.
        show: makes the record known; called again and again.
        script: the batch script that runs beside us, if one does.
    """
    record = Record()
    record.counts["interval_ms"] = round(interval_s * 1000)
    bell = Bell(life=life)
    _out_of_the_way()
    plan = Plan(
        directory=directory,
        suffix=placement.host_suffix(environ, hostname=os.uname().nodename),
        interval_s=interval_s,
        environ=environ,
        no_gpu=whose_gpus.has_none_on_purpose(environ) or "",
        open_host=lambda: host_source.open_source(environ, root=root),
        end_unix_s=_end(environ),
        gpu_held_s=_HELD_INTERVALS * interval_s if script and own_sampling.is_in(script) else 0.0,
    )
    try:
        Loop(plan, record, bell, show=lambda: show(record), seen=Seen(root)).run()
    except Exception as error:  # noqa: BLE001 (outside of a tick, so this is the end; it shall not be a silent one)
        record.texts["ended"] = f"{type(error).__name__}: {error}"
        show(record)
    return record


def _out_of_the_way() -> None:
    forbid_core_dumps()
    os.chdir("/")
    with suppress(OSError):  # as nice as we may be
        os.nice(_NICE)


def _end(environ: Mapping[str, str]) -> float | None:
    text = environ.get("SLURM_JOB_END_TIME", "")
    if not (text.isascii() and text.isdigit()) or int(text) < time.time():
        return None  # not told, or of another job that this one was submitted from
    return int(text) + _SLACK_S
