"""Finds which job this is, what its files are named here, and whether a `run` is among its ancestors.

What sbatch finds in the environment goes on into the job that it submits, so below a job that was submitted
inside another one some variables tell of that other job [seen on 22.05: SLURM_ARRAY_*, SLURM_HET_*,
SLURM_STEP_ID, SLURM_RESTART_COUNT]. SLURM_JOB_ID, SLURM_TASK_PID and SLURM_PROCID are always this job's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from evalmon_agent.files.proc import parent_of, read

_OF_AN_EVAL = ("EVALMON_DIR", "EVALMON_NAME", "EVALMON_OUTPUT_DIR")

# A bound, should the table change under our feet; real chains end at slurmstepd after a few steps.
_GENERATIONS = 64
_STEPD = b"slurmstepd: ["


class Job(NamedTuple):
    """The job by Slurm's id (`123`, `123_4`, `123+0`) and this process's part in it.

    `scope` is "job" where the command is the whole batch script, "part" where it is one of several things
    that a script or a step does. `file` is the report's name below jobs/; `spare_file` the one to use should
    `file` be another job's (an inherited SLURM_ARRAY_JOB_ID). `nodes`: how many it has.
    """

    raw_id: int
    job_id: str
    scope: str
    file: str
    spare_file: str
    cluster: str | None
    restart: int
    time_limit_end: int | None
    nodes: int | None


def job_of(environ: Mapping[str, str], *, pid: int, is_script: bool, step: str | None) -> Job | None:
    """The job that this process belongs to; None outside of one, or if its id is not one of Slurm's.

    Args:
        environ: the environment.
        pid: this process.
        is_script: the command is a batch script (the launcher or the hook says so).
        step: the step as slurmstepd names it (`batch`, `0`); None if that is not known.
    """
    raw_id = _number(environ, "SLURM_JOB_ID")
    if raw_id is None:
        return None
    number = _digits(step) if step is not None or is_script else _number(environ, "SLURM_STEP_ID")
    is_batch_shell = number is None and (is_script or environ.get("SLURM_TASK_PID") == str(pid))
    part = "" if number is None else f".{number}.{_number(environ, 'SLURM_PROCID') or 0}"
    job_id = _job_id(environ, raw_id)
    return Job(
        raw_id=raw_id,
        job_id=job_id,
        scope="job" if is_batch_shell else "part",
        file=f"{job_id}{part}.json",
        spare_file=f"{raw_id}{part}.json",
        cluster=environ.get("SLURM_CLUSTER_NAME") or None,
        restart=_number(environ, "SLURM_RESTART_COUNT") or 0,
        time_limit_end=_number(environ, "SLURM_JOB_END_TIME"),
        nodes=_number(environ, "SLURM_JOB_NUM_NODES"),
    )


def variables_of_another_eval(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The names of variables that evalmon's launcher set for another eval, from whose job this job was submitted."""
    eval_job_id, raw_id = _number(environ, "EVALMON_JOB_ID"), _number(environ, "SLURM_JOB_ID")
    if eval_job_id is None or raw_id is None or eval_job_id == raw_id:
        return ()
    is_part_of_it = _job_id(environ, raw_id).partition("+")[0] == str(eval_job_id)  # of a heterogeneous job
    return () if is_part_of_it else _OF_AN_EVAL


def host_suffix(environ: Mapping[str, str], *, hostname: str) -> str:
    """The text before `.csv` in this node's file names: empty on the first or only node, else `.<host>`.

    The batch script runs on the first node of the job; SLURM_NODEID would not tell, for in a step it counts the step's
    nodes. Of a step's tasks on a node the first one samples (children.py).
    """
    nodes = environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST") or ""
    node = environ.get("SLURMD_NODENAME") or hostname
    if not environ.get("SLURM_JOB_ID") or not nodes or node == first_of(nodes):
        return ""
    return "." + "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in node[:200])


def first_of(nodes: str) -> str:
    """The first host of a list as Slurm prints it: `n[01-03,7],m1` gives `n01`, `r[1-2]n[3-4]` gives `r1n3`."""
    first = ""
    in_brackets, is_skipping = False, False
    for character in nodes:
        if character == "," and not in_brackets:
            break
        if character in "[]":
            in_brackets, is_skipping = character == "[", False
        elif in_brackets and character in "-,":
            is_skipping = True
        elif not is_skipping:
            first += character
    return first


def _job_id(environ: Mapping[str, str], raw_id: int) -> str:
    array, task = _number(environ, "SLURM_ARRAY_JOB_ID"), _number(environ, "SLURM_ARRAY_TASK_ID")
    if array is not None and task is not None:
        return f"{array}_{task}"
    leader = _number(environ, "SLURM_JOB_ID_HET_GROUP_0")
    for offset in range(min(_number(environ, "SLURM_HET_SIZE") or 0, 128)):
        if leader is not None and _number(environ, f"SLURM_JOB_ID_HET_GROUP_{offset}") == raw_id:
            return f"{leader}+{offset}"
    return str(raw_id)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    return _digits(environ.get(name))


def _digits(text: str | None) -> int | None:
    """The text if it consists of digits only, since it becomes part of a path."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 20 else None


class Ancestor(NamedTuple):
    """`is_run`: a `run` for the same job. `step`: "batch", "0", ... if slurmstepd was found and says so."""

    is_run: bool = False
    step: str | None = None


def find_ancestor(job_id: str | None) -> Ancestor:
    """Walk up the parent processes as far as they can be read.

    Args:
        job_id: SLURM_JOB_ID; a `run` of another job (salloc below a `run`, say) does not count.

    Raises:
        OSError: /proc cannot be read.
    """
    pid = parent_of(os.getpid())
    for _ in range(_GENERATIONS):
        if pid <= 1:
            break
        try:
            words = read(pid, "cmdline").split(b"\0")
            if is_run(words) and _job_id_of(pid) == job_id:
                return Ancestor(is_run=True)
            if words[0].startswith(_STEPD):
                return Ancestor(step=step_of(words[0], job_id))
            pid = parent_of(pid)
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            break  # ended meanwhile, or another user's (sudo): no process of this user's beyond
    return Ancestor()


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
