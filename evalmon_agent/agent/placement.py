"""Which job this is, and under which name its report stands. Pure: from the environment that Slurm set.

What sbatch finds in the environment goes on into the job that it submits, so below a job that was submitted
inside another one some variables tell of that other job [seen on 22.05: SLURM_ARRAY_*, SLURM_HET_*,
SLURM_STEP_ID, SLURM_RESTART_COUNT]. SLURM_JOB_ID, SLURM_TASK_PID and SLURM_PROCID are always this job's.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_AN_EVAL = ("EVALMON_DIR", "EVALMON_NAME", "EVALMON_OUTPUT_DIR")


class Job:
    """The job as Slurm names it (`123`, `123_4`, `123+0`) and this process's part in it.

    `scope` is "job" where the command is the whole batch script, "part" where it is one of several things
    that a script or a step does. `file` is the report's name below jobs/; `spare_file` the one to use should
    `file` be another job's (an inherited SLURM_ARRAY_JOB_ID).
    """

    __slots__ = (
        "cluster",
        "file",
        "job_id",
        "raw_id",
        "restart",
        "scope",
        "spare_file",
        "time_limit_end",
    )

    def __init__(self, environ: "Mapping[str, str]", *, raw_id: int, step: int | None, scope: str) -> None:
        part = "" if step is None else f".{step}.{_number(environ, 'SLURM_PROCID') or 0}"
        self.raw_id = raw_id
        self.job_id = _job_id(environ, raw_id)
        self.scope = scope
        self.cluster = environ.get("SLURM_CLUSTER_NAME") or None
        self.restart = _number(environ, "SLURM_RESTART_COUNT") or 0
        self.time_limit_end = _number(environ, "SLURM_JOB_END_TIME")
        self.file = f"{self.job_id}{part}.json"
        self.spare_file = f"{raw_id}{part}.json"


def job_of(environ: "Mapping[str, str]", *, pid: int, is_script: bool, step: str | None) -> Job | None:
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
    return Job(environ, raw_id=raw_id, step=number, scope="job" if is_batch_shell else "part")


def of_another_eval(environ: "Mapping[str, str]") -> tuple[str, ...]:
    """What evalmon's launcher set for the eval from whose job this one was submitted, which is not that eval: names."""
    said_to, raw_id = _number(environ, "EVALMON_JOB_ID"), _number(environ, "SLURM_JOB_ID")
    if said_to is None or raw_id is None or said_to == raw_id:
        return ()
    is_part_of_it = _job_id(environ, raw_id).partition("+")[0] == str(said_to)  # of a heterogeneous job
    return () if is_part_of_it else _OF_AN_EVAL


def _job_id(environ: "Mapping[str, str]", raw_id: int) -> str:
    array, task = _number(environ, "SLURM_ARRAY_JOB_ID"), _number(environ, "SLURM_ARRAY_TASK_ID")
    if array is not None and task is not None:
        return f"{array}_{task}"
    leader = _number(environ, "SLURM_JOB_ID_HET_GROUP_0")
    for offset in range(min(_number(environ, "SLURM_HET_SIZE") or 0, 128)):
        if leader is not None and _number(environ, f"SLURM_JOB_ID_HET_GROUP_{offset}") == raw_id:
            return f"{leader}+{offset}"
    return str(raw_id)


def _number(environ: "Mapping[str, str]", name: str) -> int | None:
    return _digits(environ.get(name))


def _digits(text: str | None) -> int | None:
    """Nothing but digits: these become part of a path."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 20 else None
