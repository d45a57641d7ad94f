"""Which job this is, and under which name its report stands. Pure: from the environment that Slurm set."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Job:
    """The job as Slurm names it (`123`, `123_4`, `123+0`) and this process's part in it.

    `scope` is "job" where the command is the whole batch script, "part" where it is one of several things
    that a script or a step does. `file` is the report's name below jobs/.
    """

    __slots__ = ("cluster", "file", "job_id", "raw_id", "restart", "scope", "time_limit_end")

    def __init__(
        self, environ: "Mapping[str, str]", *, raw_id: int, job_id: str, step: str | None, scope: str
    ) -> None:
        self.raw_id = raw_id
        self.job_id = job_id
        self.scope = scope
        self.cluster = environ.get("SLURM_CLUSTER_NAME") or None
        self.restart = _number(environ, "SLURM_RESTART_COUNT") or 0
        self.time_limit_end = _number(environ, "SLURM_JOB_END_TIME")
        self.file = f"{job_id}.json" if step is None else f"{job_id}.{step}.json"


def job_of(environ: "Mapping[str, str]", *, pid: int, is_script: bool) -> Job | None:
    """The job that this process belongs to; None outside of one, or if its id is not one of Slurm's.

    `is_script`: the command is a batch script (the launcher or the hook says so).
    """
    raw_id = _number(environ, "SLURM_JOB_ID")
    if raw_id is None:
        return None
    step = _step(environ)
    is_batch_shell = step is None and (is_script or environ.get("SLURM_TASK_PID") == str(pid))
    return Job(
        environ,
        raw_id=raw_id,
        job_id=_job_id(environ, raw_id),
        step=step,
        scope="job" if is_batch_shell else "part",
    )


def _job_id(environ: "Mapping[str, str]", raw_id: int) -> str:
    array, task = _number(environ, "SLURM_ARRAY_JOB_ID"), _number(environ, "SLURM_ARRAY_TASK_ID")
    if array is not None and task is not None:
        return f"{array}_{task}"
    het, offset = _number(environ, "SLURM_HET_JOB_ID"), _number(environ, "SLURM_HET_JOB_OFFSET")
    if het is not None and offset is not None:
        return f"{het}+{offset}"
    return str(raw_id)


def _step(environ: "Mapping[str, str]") -> str | None:
    step = _number(environ, "SLURM_STEP_ID")
    if step is None:
        return None
    return f"{step}.{_number(environ, 'SLURM_PROCID') or 0}"


def _number(environ: "Mapping[str, str]", name: str) -> int | None:
    """Digits only: these become part of a path."""
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else None
