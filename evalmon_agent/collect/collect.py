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
from evalmon_agent.files.permissions import user_name
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.tracking.case import case_of, was_not_started
from evalmon_agent.tracking.path import ENDS, Incarnation, incarnations, slurm_says
from evalmon_agent.tracking.records import Eval, Evidence, Foreign
from evalmon_agent.tracking.wanted import Unmeasured
from evalmon_agent.words.printable import printable
from evalmon_agent.words.states import State

_BUDGET_S = 5.0


def collect(experiment: Experiment, ev: Eval, owed: Unmeasured, reader: LogReader, *, slurm: Slurm) -> Evidence:
    """The evidence of one ended attempt; what cannot be read is not there.

    Slurm is asked only about a job that it could not start.
    """
    # No job waits for this: where many evals share a directory, all its logs may have to be read.
    files = reader.files
    files.foreign.clear()
    reader.renew(budget_s=_BUDGET_S)
    wanted = (owed.submitted_at, owed.restart)
    known = incarnations(ev, owed.job_id)
    one = next((one for one in known if (one.attempt.submitted_at, one.attempt.restart) == wanted), None)
    if one is None:
        return Evidence()
    script = script_of(experiment, ev, owed.job_id, files=files)
    outputs = outputs_of(script, ev, owed.job_id, files=files)
    output = text_of(outputs.output, files=files)
    span = span_of(ev, one, output=output)
    result = result_of(reader, ev, script, span, job_id=owed.job_id)
    expected = expects_log(script, one.own.programs if one.own is not None else ())
    case = case_of(
        one.attempt,
        one.own,
        state=_state(ev, one),
        printed=f"{output}\n{text_of(outputs.errors, files=files)}",
        result=result,
        expects_log=expected,
        unopened=unopened(outputs, slurm, owed.job_id) if was_not_started(one.attempt, one.own) else None,
    )
    return Evidence(
        gpu=gpu_figures(files, ev.output_dir, span, one.own),
        result=result,
        expects_log=expected,
        log=None if _is_behind(outputs.output, files.foreign) else outputs.output,
        diagnosis=None if one.superseded else diagnose(case),
        foreign=[Foreign(printable(path), printable(user_name(uid))) for path, uid in sorted(files.foreign.items())],
    )


def _is_behind(path: str | None, foreign: Iterable[str]) -> bool:
    """Whether the path is, or leads through, something that belongs to somebody else."""
    return path is not None and any(path == one or path.startswith(f"{one}/") for one in foreign)


def _state(ev: Eval, one: Incarnation) -> State | None:
    """How it ended: Slurm's word, and where it has none, what the log was told (by the job itself, or LOST)."""
    said = slurm_says(one.attempt)
    return said if said in ENDS else dict(ev.logged).get(one.attempt.job_id)
