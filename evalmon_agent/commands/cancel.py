"""`evalmon cancel`: ends the jobs of evals, and takes back what waits to be submitted."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import click

from evalmon_agent.cli.options import CommandOnExperiment, names_argument
from evalmon_agent.cli.output import interruptible
from evalmon_agent.errors import SlurmUnavailableError, UsageError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs import register
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.session import Session
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.submitting.prepare import require_scancel, resolve
from evalmon_agent.tracking.apply import JobIndex, Tracked
from evalmon_agent.tracking.registry import Entry, Submission, waiting
from evalmon_agent.words.eval_names import named_evals
from evalmon_agent.words.job_id import JobId, without_component
from evalmon_agent.words.printable import printable

_IDS_PER_CALL = 1000
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Active:
    """What would be ended: jobs, each with its eval's name, and submissions that wait."""

    jobs: list[tuple[str, JobId]] = field(default_factory=list)
    waiting: list[Entry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.jobs or self.waiting)


@click.command("cancel", cls=CommandOnExperiment)
@names_argument()
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(experiment: Experiment, names: Sequence[str], yes: bool) -> None:
    """Cancel the jobs of evals.

    Evals that wait to be submitted are then not submitted.
    """
    session = Session.of_command(experiment, for_reading=True)
    with interruptible("nothing was cancelled"):
        ended = cancel(session, names, confirm=(lambda _: True) if yes else _ask)
    if ended is None:
        click.echo("nothing was cancelled")
    elif not ended:
        click.echo("nothing to cancel: none of them is queued, running or waiting to be submitted")
    else:
        _print(ended, "cancelled", "not submitted any more:")


def cancel(session: Session, patterns: Sequence[str], *, confirm: Callable[[Active], bool]) -> Active | None:
    """End what is active of the named evals, and return it; None if `confirm` says no."""
    experiment, slurm = session.experiment, session.slurm
    require_scancel(session)
    resolve(session)
    active = _active(session, patterns)
    if not active:
        return active
    if not confirm(active):
        return None
    with interruptible("some may be cancelled; run the same command again to cancel the rest"):
        withdrawn = register.withdraw(experiment, {entry.token for entry in active.waiting})
        jobs = list(dict.fromkeys(without_component(job_id) for _, job_id in active.jobs))
        for start in range(0, len(jobs), _IDS_PER_CALL):
            failure = slurm.cancel(jobs[start : start + _IDS_PER_CALL])
            if failure is not None:
                raise SlurmUnavailableError(f"the jobs could not be cancelled: {failure.line}")
        Observer(session, role="command").record()
    _refuse_underway(entry.submission for entry in active.waiting if entry.submission.name not in withdrawn)
    return active


def _active(session: Session, patterns: Sequence[str]) -> Active:
    """What Slurm has of these evals now, and what waits.

    A job that only has the id of an eval's job of long ago is not the eval's.
    """
    experiment = session.experiment
    state = Observer(session, role="command").record()
    names = set(named_evals(patterns, state.names, experiment=experiment.root))
    answer = session.slurm.queue()
    if isinstance(answer, Failure):
        raise SlurmUnavailableError(f"Slurm does not answer: {answer.line}; nothing was cancelled, try again later")
    index = JobIndex(state.evals.values())
    owners = [(index.in_queue(row), row) for row in answer.rows if row.goes_on]
    jobs = [(owner[0].name, row.job_id) for owner, row in owners if owner is not None and _is_certain(owner, row)]
    jobs = [(name, job_id) for name, job_id in jobs if name in names]
    entries = experiment.ledger.entries()
    _refuse_underway(e.submission for e in entries if e.is_open and not names.isdisjoint(e.submission.eval_names))
    return Active(jobs, [e for e in waiting(entries) if _is_named(e, names, experiment)])


def _is_certain(owner: Tracked, row: SqueueRow) -> bool:
    """Whether this row is of the eval's job, not of a later one with the same id, which has no script to tell by."""
    ev, job = owner
    is_over = ev.final or job is not ev.jobs[-1]
    is_by_token = job.token is not None and f"/{job.token}/" in row.command
    return is_by_token or not is_over or any(row.submitted_at == attempt.submitted_at for attempt in job.attempts)


def _refuse_underway(submissions: Iterable[Submission]) -> None:
    """UsageError if there is one: another process is submitting it, so it is not known yet what to cancel."""
    for submission in submissions:
        raise UsageError(f"{submission.name} is being submitted now; run the same command again in a minute")


def _is_named(entry: Entry, names: set[str], experiment: Experiment) -> bool:
    """Whether this waiting submission is named; UsageError if only some tasks of its array are."""
    is_named = [name in names for name in entry.submission.eval_names]
    if any(is_named) and not all(is_named):
        array = entry.submission.name
        raise UsageError(
            f"{array} waits to be submitted as a whole; to cancel all of it: evalmon cancel {experiment.root} {array}"
        )
    return all(is_named)


def _ask(active: Active) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask on: to cancel without being asked, add --yes")
    _print(active, "would cancel", "would not submit any more:")
    return click.confirm("Cancel?", default=False)


def _print(active: Active, of_jobs: str, of_waiting: str) -> None:
    lines = [f"{of_jobs} {printable(name)}  job {job_id}" for name, job_id in active.jobs]
    lines += [f"{of_waiting} {printable(entry.submission.name)}" for entry in active.waiting]
    for line in lines[:_SHOWN]:
        click.echo(line)
    if len(lines) > _SHOWN:
        click.echo(f"(+{len(lines) - _SHOWN} more)")
