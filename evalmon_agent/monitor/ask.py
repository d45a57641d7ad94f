"""Collects the facts of one observation: the registry, the jobs' reports and Slurm's answers.

No lock is held here: every file that is read is replaced atomically or only appended to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evalmon_agent.experiment import reports
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.slurm.client import IDS_PER_CALL, Slurm
from evalmon_agent.slurm.failures import Failure, Kind
from evalmon_agent.tracking.facts import AccountAnswer, Facts, QueueAnswer
from evalmon_agent.tracking.fold import Tracker
from evalmon_agent.tracking.registry import Entry
from evalmon_agent.words.job_id import JobId

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Answers:
    """The facts, the registry's entries, and the question that failed, if one did."""

    facts: Facts
    entries: Sequence[Entry]
    failure: Failure | None = None


def read_local(experiment: Experiment, tracker: Tracker) -> tuple[Facts, list[Entry]]:
    """What the files of the experiment say beyond what the state has; Slurm is not asked."""
    entries = experiment.ledger.entries()
    facts = Facts(
        registrations=tracker.registrations(entries),
        reports=list(reports.changed(experiment.jobs, tracker.state.reported)),
    )
    return facts, entries


def ask(
    experiment: Experiment, slurm: Slurm, tracker: Tracker, *, lost_after_s: float, clock: Clock = time.time
) -> Answers:
    """One squeue for all, and one sacct (per IDS_PER_CALL) for those that are gone from it.

    `tracker` takes in all of it but sacct's answers: only then is it known whom to ask about.
    """
    local, entries = read_local(experiment, tracker)
    asked_at = clock()
    answer = slurm.queue()
    failure = answer if isinstance(answer, Failure) else None
    queue = None if isinstance(answer, Failure) else QueueAnswer(asked_at, answer.rows)
    tracker.take(Facts(local.registrations, local.reports, queue))
    accounts: list[AccountAnswer] = []
    job_ids = tracker.jobs_to_account(lost_after_s=lost_after_s)
    for start in range(0, len(job_ids), IDS_PER_CALL):
        account = _account(slurm, job_ids[start : start + IDS_PER_CALL], asked_at=clock())
        if isinstance(account, Failure):
            failure = failure or account
            break
        accounts.append(account)
    return Answers(Facts(local.registrations, local.reports, queue, accounts), entries, failure)


def _account(slurm: Slurm, job_ids: Sequence[JobId], *, asked_at: float) -> AccountAnswer | Failure:
    if not slurm.has("sacct"):
        return AccountAnswer(asked_at, frozenset(job_ids), (), disabled=True)
    answer = slurm.account(job_ids)
    if isinstance(answer, Failure):
        if answer.kind is Kind.ACCOUNTING_DISABLED:
            return AccountAnswer(asked_at, frozenset(job_ids), (), disabled=True)
        return answer
    return AccountAnswer(asked_at, frozenset(job_ids), answer.jobs)
