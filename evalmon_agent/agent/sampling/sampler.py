"""Sets up a sampler (low priority, what to sample) and runs its loop."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from evalmon_agent.agent.job import host_suffix
from evalmon_agent.agent.signals import forbid_core_dumps
from evalmon_agent.agent.witness.witness import Witness

from . import cgroup, job_gpus
from .cgroup import CgroupUsage
from .host_usage import HostSource
from .loop import Loop, Plan
from .processes import TreeUsage
from .sampler_status import SamplerStatus
from .wakeup import Wakeup

DEFAULT_INTERVAL_S = 30.0

# Slurm may let a job run on for a while (OverTimeLimit, KillWait).
_SLACK_S = 600.0
_NICE = 19

# How long to wait for a script that samples itself, before assuming that it does not this time.
_HELD_INTERVALS = 3

_SCRIPT_BYTES = 1 << 20
_SAMPLES_ITSELF = (b"nvidia-smi", b"gpu_metrics.csv")


def run(
    directory: str,
    *,
    interval_s: float,
    environ: Mapping[str, str],
    root: int,
    parent_pipe: int,
    show: Callable[[SamplerStatus], None],
    script: str | None = None,
    witness: Witness | None = None,
) -> SamplerStatus:
    """Sample into `directory` until there is a reason to end. The caller leaves the process at once, by os._exit.

    Args:
        directory: absolute; made where it is missing.
        interval_s: from tick to tick.
        environ: as it was at the start.
        root: the process whose tree is the job's where there is no cgroup.
        parent_pipe: a pipe whose other end the parent holds, or -1.
        show: makes the status known; called again and again.
        script: the batch script that runs in this job, if there is one.
        witness: looks for evals meanwhile.
    """
    status = SamplerStatus()
    status.counts["interval_ms"] = round(interval_s * 1000)
    wakeup = Wakeup(parent_pipe=parent_pipe)
    _out_of_the_way()
    plan = Plan(
        directory=directory,
        suffix=host_suffix(environ, hostname=os.uname().nodename),
        interval_s=interval_s,
        environ=environ,
        no_gpu=job_gpus.no_gpu_reason(environ) or "",
        open_host=lambda: open_host_source(environ, root=root),
        end_unix_s=_end(environ),
        gpu_held_s=_HELD_INTERVALS * interval_s if script and samples_itself(script) else 0.0,
    )
    try:
        Loop(plan, status, wakeup, witness, show=lambda: show(status)).run()
    except Exception as error:  # noqa: BLE001 (outside of a tick, so this is the end; it shall not be a silent one)
        status.texts["ended"] = f"{type(error).__name__}: {error}"
        show(status)
    return status


def _out_of_the_way() -> None:
    forbid_core_dumps()
    os.chdir("/")
    with suppress(OSError):  # the highest nice value allowed
        os.nice(_NICE)


def _end(environ: Mapping[str, str]) -> float | None:
    text = environ.get("SLURM_JOB_END_TIME", "")
    if not (text.isascii() and text.isdigit()) or int(text) < time.time():
        return None  # not set, or by the job that this one was submitted from
    return int(text) + _SLACK_S


def open_host_source(environ: Mapping[str, str], *, root: int) -> HostSource:
    """The job's cgroup, or the process tree below `root` if there is no readable cgroup."""
    job_id = environ.get("SLURM_JOB_ID", "")
    if job_id.isascii() and job_id.isdigit():
        try:
            return CgroupUsage(cgroup.job_directories(job_id))
        except (OSError, ValueError):
            pass
    return TreeUsage(root)


def samples_itself(script: str) -> bool:
    """Whether the batch script seems to write gpu_metrics.csv itself; False if it cannot be read.

    Many did before us: `nvidia-smi --query-gpu=... -l 30 > gpu_metrics.csv &`. By its text, since what appends to the
    file later cannot be seen beforehand.
    """
    try:
        with open(script, "rb", buffering=0) as file:
            text = file.read(_SCRIPT_BYTES) or b""
    except OSError:
        return False
    return text_samples_itself(text)


def text_samples_itself(text: bytes) -> bool:
    """The same for the script's text; comments do not count."""
    code = b"\n".join(line for line in text.split(b"\n") if not line.lstrip().startswith(b"#"))
    return all(word in code for word in _SAMPLES_ITSELF)
