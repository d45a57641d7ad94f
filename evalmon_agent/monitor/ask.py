"""Collects the facts of one observation: the registry, the jobs' reports and Slurm's answers.

No lock is held here: every file that is read is replaced atomically or only appended to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evalmon_agent.experiment import reports
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.slurm.client import IDS_PER_CALL, Slurm
from evalmon_agent.slurm.failures import Failure, Kind
from evalmon_agent.tracking.facts import AccountAnswer, Facts, QueueAnswer
from evalmon_agent.tracking.fold import fold
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.registry import Entry, Registration, registrations
from evalmon_agent.tracking.wanted import jobs_to_account
from evalmon_agent.words.job_id import JobId

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Answers:
    """The facts, the registry's entries, and the question that failed, if one did."""

    facts: Facts
    entries: Sequence[Entry]
    failure: Failure | None = None


def read_local(experiment: Experiment, state: ExperimentState) -> tuple[Facts, list[Entry]]:
    """What the files of the experiment say beyond what `state` has; Slurm is not asked."""
    found = experiment.ledger.entries()
    facts = Facts(
        registrations=[r for r in registrations(found) if not _has(state, r)],
        reports=list(reports.changed(experiment.jobs, state.reported)),
    )
    return facts, found


def ask(experiment: Experiment, slurm: Slurm, *, lost_after_s: float, clock: Clock = time.time) -> Answers:
    """One squeue for all, and one sacct (per IDS_PER_CALL) for those that are gone from it."""
    preview = state_file.load(experiment) or ExperimentState(experiment=experiment.root)
    local, found = read_local(experiment, preview)
    asked_at = clock()
    queue = slurm.queue()
    failure = queue if isinstance(queue, Failure) else None
    answer = None if isinstance(queue, Failure) else QueueAnswer(asked_at, queue.rows)
    # The preview is thrown away; it only tells whom to ask about.
    fold(
        preview,
        Facts(local.registrations, local.reports, answer),
        lost_after_s=lost_after_s,
    )
    accounts: list[AccountAnswer] = []
    wanted = jobs_to_account(preview)
    for start in range(0, len(wanted), IDS_PER_CALL):
        chunk = wanted[start : start + IDS_PER_CALL]
        account = _account(slurm, chunk, asked_at=clock())
        if isinstance(account, Failure):
            failure = failure or account
            break
        accounts.append(account)
    return Answers(Facts(local.registrations, local.reports, answer, accounts), found, failure)


def _account(slurm: Slurm, job_ids: Sequence[JobId], *, asked_at: float) -> AccountAnswer | Failure:
    if not slurm.has("sacct"):
        return AccountAnswer(asked_at, frozenset(job_ids), (), disabled=True)
    answer = slurm.account(job_ids)
    if isinstance(answer, Failure):
        if answer.kind is Kind.ACCOUNTING_DISABLED:
            return AccountAnswer(asked_at, frozenset(job_ids), (), disabled=True)
        return answer
    return AccountAnswer(asked_at, frozenset(job_ids), answer.jobs)


def _has(state: ExperimentState, fact: Registration) -> bool:
    ev, token = state.evals.get(fact.submission.name), fact.submission.token or None
    return ev is not None and any(j.job_id == fact.job_id and j.token == token for j in ev.jobs)
