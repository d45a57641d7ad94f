"""Which eval is a job that reports itself without a name? Its script's path below EXP tells, else its job name. Pure.

Inside a job nobody can see where its script came from (it runs a copy of Slurm's), so this waits for what squeue shows.
"""

from __future__ import annotations

import os

from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.facts import QueueAnswer, SelfReport
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.words.eval_names import name_from_path, task_name
from evalmon_agent.words.job_id import task_of
from evalmon_agent.words.printable import printable


def name_for(state: ExperimentState, report: SelfReport, queue: QueueAnswer | None) -> str | None:
    """The name for a job whose report has none; None while squeue has not been asked.

    After a lost state it is the one that the log has. A job's name, which many jobs share, gets the job's id where
    another eval is called so.
    """
    logged = _logged_name(state, report.job_id)
    if logged is not None or queue is None:
        return logged
    row = next((row for row in queue.rows if row.job_id == report.job_id), None)
    stem = _below(row, state.experiment) if row is not None else None
    task = task_of(report.job_id)
    if stem is not None:
        return stem if task is None else task_name(stem, task)
    job_name = (row.name if row is not None else report.job_name) or report.job_id
    name = job_name if task is None else task_name(job_name, task)
    return name if name not in state.evals else f"{name}-{report.job_id}"


def _logged_name(state: ExperimentState, job_id: str) -> str | None:
    logged = state.recovered.logged if state.recovered is not None else {}
    return next(
        (name for name, known in logged.items() if any(entry.job_id == printable(job_id) for entry in known)), None
    )


def script_in(row: SqueueRow) -> str | None:
    """The script in a Command, before its arguments; it ends at the job's name, which it gave, or at a blank."""
    script, found, rest = row.command.partition(f"/{row.name}")
    is_whole = bool(found) and rest[:1] in {"", " "}
    script = script + found if is_whole else row.command.partition(" ")[0]
    return script if script.startswith("/") else None


def _below(row: SqueueRow, root: str) -> str | None:
    script = script_in(row)
    if script is None or not script.startswith(root + os.sep):
        return None
    return name_from_path(script[len(root) + 1 :])
