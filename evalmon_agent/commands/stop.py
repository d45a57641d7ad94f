"""`evalmon stop`: cancels the sidecar and the completion job, never an eval."""

from __future__ import annotations

from collections.abc import Mapping

import click

from evalmon_agent.cli.options import experiment_argument
from evalmon_agent.cli.output import interruptible
from evalmon_agent.errors import SlurmUnavailableError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs import register
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.session import Session
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.submitting.prepare import require_scancel, resolve
from evalmon_agent.tracking import blocks
from evalmon_agent.tracking.blocks import BlockKind
from evalmon_agent.tracking.records import ExperimentState, MonitorJob
from evalmon_agent.words.job_id import JobId, whole_job
from evalmon_agent.words.printable import printable
from evalmon_agent.words.states import TERMINAL


@click.command("stop")
@experiment_argument()
def command(experiment: Experiment) -> None:
    """Stop monitoring. Evals keep running."""
    with interruptible("the monitoring may go on; run evalmon stop again"):
        ended, left = stop(Session.of_command(experiment, for_reading=True))
    jobs = f"cancelled job{'s' * (len(ended) != 1)} {' '.join(ended)}" if ended else "no monitor job was left"
    click.echo(f"Stopped monitoring ({jobs}). Evals keep running.")
    if left:
        click.echo(f"not submitted, and no longer waiting: {' '.join(map(printable, left))}")


def stop(session: Session) -> tuple[list[JobId], list[str]]:
    """Cancel all monitor jobs that were ever submitted, and withdraw the waiting evals.

    Returns the ids of those jobs that were not over, and the names of the evals that waited.
    """
    experiment, slurm = session.experiment, session.slurm
    require_scancel(session)
    entries = resolve(session)
    tokens = {e.accepted.job_id: e.token for e in entries if not e.is_eval and e.accepted is not None}
    ended, monitor_jobs = _not_over(tokens, slurm)
    failure = slurm.cancel(monitor_jobs)
    if failure is not None:
        raise SlurmUnavailableError(f"the monitor jobs {' '.join(monitor_jobs)} could not be ended: {failure.line}")
    left = register.withdraw(experiment)
    observer = Observer(session, role="command")
    fields = {"Reason": "evalmon stop", "Jobs ended": " ".join(ended) or "none"}
    if left:
        fields["Not submitted"] = " ".join(left)

    def change(state: ExperimentState, now: float) -> list[list[str]]:
        if state.completion is not None and state.completion.status != MonitorJob.COMPLETE:
            state.completion.status, state.completion.alive = MonitorJob.STOPPED, False
        return [blocks.note(now, BlockKind.MONITOR_STOPPED, "by the user", fields)]

    observer.record()
    observer.transact(change)
    return ended, left


def _not_over(tokens: Mapping[JobId, str], slurm: Slurm) -> tuple[list[JobId], list[JobId]]:
    """The monitor jobs that Slurm still has, and those that may be cancelled; all of them if it does not answer.

    A job that only has the id of a monitor job of long ago is neither: its Command is another.
    """
    answer = slurm.queue()
    if isinstance(answer, Failure):
        return list(tokens), list(tokens)
    rows = {whole_job(row.job_id): row for row in answer.rows}
    monitor_jobs = [job for job, token in tokens.items() if job not in rows or f"/{token}/" in rows[job].command]
    return [job for job in monitor_jobs if job in rows and rows[job].state not in TERMINAL], monitor_jobs
