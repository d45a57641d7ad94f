"""Finds who is above us: another evalmon `run` for this job, whose report covers us then, or slurmstepd."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .proc import parent_of, read

# A bound, should the table change under our feet; real chains end at slurmstepd after a few steps.
_GENERATIONS = 64

_STEPD = b"slurmstepd: ["


@dataclass(frozen=True, slots=True)
class Above:
    """`is_run`: a `run` for the same job. `step`: "batch", "0", ... if slurmstepd was found and says so."""

    is_run: bool = False
    step: str | None = None


def look_above(job_id: str | None) -> Above:
    """Walk up the parents as far as they are ours to read.

    Args:
        job_id: SLURM_JOB_ID; a `run` of another job (salloc below a `run`, say) does not count.

    Raises:
        OSError: /proc does not tell.
    """
    pid = parent_of(os.getpid())
    for _ in range(_GENERATIONS):
        if pid <= 1:
            break
        try:
            words = read(pid, "cmdline").split(b"\0")
            if is_run(words) and _job_id_of(pid) == job_id:
                return Above(is_run=True)
            if words[0].startswith(_STEPD):
                return Above(step=step_of(words[0], job_id))
            pid = parent_of(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            break  # ended meanwhile, or another user's (sudo): nothing of ours beyond
    return Above()


def is_run(words: list[bytes]) -> bool:
    """Whether this command line is `python -m evalmon_agent run ...` or `python .../evalmon run ...`."""
    if b"python" not in os.path.basename(words[0]):
        return False
    rest = words[1:]
    while rest and rest[0].startswith(b"-") and rest[0] not in {b"-m", b"-c"}:
        rest = rest[2:] if rest[0] in {b"-X", b"-W"} else rest[1:]
    if rest[:1] == [b"-m"]:
        return rest[1:3] == [b"evalmon_agent", b"run"]
    return rest[1:2] == [b"run"] and rest[0].endswith((b"/evalmon", b"/evalmon_agent/__main__.py"))


def step_of(title: bytes, job_id: str | None) -> str | None:
    """The step in `slurmstepd: [123.batch]`, if it is a step of this job."""
    job, _, step = title.removeprefix(_STEPD).partition(b"]")[0].decode(errors="replace").partition(".")
    return step if job == job_id and step else None


def _job_id_of(pid: int) -> str | None:
    for entry in read(pid, "environ").split(b"\0"):
        if entry.startswith(b"SLURM_JOB_ID="):
            return os.fsdecode(entry.partition(b"=")[2])
    return None
