"""What did an attempt leave behind: its GPU metrics, its eval's log, why it failed. Read once, bounded, unlocked."""

from __future__ import annotations

from collections.abc import Iterable

from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.collect.gpu import gpu_figures
from evalmon_agent.collect.traces import outputs_of, result_of, script_of, span_of, text_of
from evalmon_agent.collect.unopened import unopened
from evalmon_agent.evidence.diagnosis.diagnose import diagnose
from evalmon_agent.evidence.kinds.known import expects_log
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.ownership import user_name
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.tracking.case import case_of, was_not_started
from evalmon_agent.tracking.path import ENDS, slurm_says
from evalmon_agent.tracking.records import Attempt, Eval, Evidence, Foreign, Job
from evalmon_agent.tracking.wanted import Unmeasured
from evalmon_agent.words.printable import printable
from evalmon_agent.words.states import State

_BUDGET_S = 5.0


def collect(experiment: Experiment, owed: Unmeasured, reader: LogReader, *, slurm: Slurm) -> Evidence:
    """The evidence of one ended attempt; what cannot be read is not there.

    Slurm is asked only about a job that it could not start.
    """
    # No job waits for this: where many evals share a directory, all its logs may have to be read.
    files = reader.files
    files.foreign.clear()
    reader.renew(budget_s=_BUDGET_S)
    ev, job, attempt = owed.ev, owed.job, owed.attempt
    script = script_of(experiment, ev, job.job_id, files=files)
    outputs = outputs_of(script, ev, job.job_id, files=files)
    output = text_of(outputs.output, files=files)
    span = span_of(ev, attempt, output=output)
    result = result_of(reader, ev, script, span, job_id=job.job_id)
    expected = expects_log(script, attempt.report.programs if attempt.report is not None else ())
    case = case_of(
        attempt,
        state=_state(ev, job, attempt),
        printed=f"{output}\n{text_of(outputs.errors, files=files)}",
        result=result,
        expects_log=expected,
        unopened=unopened(outputs, slurm, job.job_id) if was_not_started(attempt) else None,
    )
    return Evidence(
        gpu=gpu_figures(files, ev.output_dir, span, attempt.report),
        result=result,
        expects_log=expected,
        log=None if _is_behind(outputs.output, files.foreign) else outputs.output,
        diagnosis=diagnose(case) if owed.is_latest else None,
        foreign=[Foreign(printable(path), printable(user_name(uid))) for path, uid in sorted(files.foreign.items())],
    )


def _is_behind(path: str | None, foreign: Iterable[str]) -> bool:
    """Whether the path is, or leads through, something that belongs to somebody else."""
    return path is not None and any(path == one or path.startswith(f"{one}/") for one in foreign)


def _state(ev: Eval, job: Job, attempt: Attempt) -> State | None:
    """How it ended: Slurm's word, and where it has none, what the log was told (by the job itself, or LOST)."""
    state = slurm_says(attempt)
    return state if state in ENDS else ev.logged_state(job.job_id)
