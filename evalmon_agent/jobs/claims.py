"""Records, under the lock, that this process submits an eval or that an eval waits, so that nobody else submits it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from evalmon_agent.errors import UsageError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import locked
from evalmon_agent.experiment.state import LastSaved
from evalmon_agent.session import Session
from evalmon_agent.submission.plan import Prepared
from evalmon_agent.tracking.registry import (
    Dropped,
    Entries,
    Entry,
    Intent,
    Name,
    Planned,
    Submission,
    What,
    Withdrawn,
    in_queue,
    last_begun_at,
    latest,
    waiting,
)

_AFTER_S = 0.001

Claim = Literal["claimed", "taken", "no room", "too soon"]


def new_token() -> str:
    """A new, unique name for one submission."""
    return os.urandom(8).hex()


def claim(experiment: Experiment, what: What) -> Submission:
    """Put the intent to submit a monitor job on record."""
    submission = Submission(token=new_token(), what=what)
    with locked(experiment):
        experiment.ledger.append(_intent(submission, time.time()))
    return submission


def claim_evals(
    session: Session,
    submission: Submission,
    *,
    saved: LastSaved | None = None,
    instead_of: Mapping[Name, str] | None = None,
) -> Claim:
    """Put the intent on record, unless somebody else has these evals, or there is no room or it is too soon.

    `saved`: one for many claims, so that the state is loaded for the first of them only. `instead_of`: for evals that
    were submitted before, the token that counts now; they are taken only while it does.
    """
    experiment, settings = session.experiment, session.settings
    with locked(experiment):
        entries = experiment.ledger.index()
        if not _is_free(submission, entries, instead_of=instead_of or {}):
            return "taken"
        if settings.max_submit is not None:
            active = in_queue(list(entries), (saved or LastSaved()).load(experiment))
            if active + submission.size > settings.max_submit:
                return "no room"
        if settings.stagger and seconds_to_wait(entries, settings.stagger, now=time.time()) > 0:
            return "too soon"
        # These times order an eval's jobs, so they grow even if this host's clock does not.
        earlier = (entry.at + _AFTER_S for entry in entries.of_name(submission.name) if entry.has_begun)
        experiment.ledger.append(_intent(submission, max([time.time(), *earlier])))
        return "claimed"


def _is_free(submission: Submission, entries: Entries, *, instead_of: Mapping[Name, str]) -> bool:
    """Whether nobody else has claimed, planned, submitted or withdrawn these evals meanwhile."""
    token = submission.token
    claimed = entries.of_token(token)
    if claimed is not None and claimed.planned is not None and not claimed.is_waiting:
        return False
    counting = latest(entries.of_name(submission.name))
    for name in submission.names:
        current = counting.get(name)
        current_token = None if current is None else current.token
        is_our_plan = current is not None and current.is_waiting and current_token == token
        if not is_our_plan and instead_of.get(name) != current_token:
            return False
    return True


def _intent(submission: Submission, at: float) -> Intent:
    return Intent(submission, at, socket.gethostname(), os.getpid())


def plan_evals(experiment: Experiment, new: Sequence[Prepared], *, environment: str) -> set[str]:
    """Record these as waiting, except those that somebody else has claimed; returns the tokens of the recorded.

    `environment`: the digest of the environment that they are to run with.
    """
    with locked(experiment):
        entries = experiment.ledger.index()
        free = [p.submission for p in new if _is_free(p.submission, entries, instead_of=p.instead_of)]
        experiment.ledger.append(*(Planned(submission, time.time(), environment) for submission in free))
    return {submission.token for submission in free}


def withdraw(experiment: Experiment, tokens: Collection[str] | None = None) -> list[str]:
    """Record that waiting evals (all, or those of these tokens) are not to be submitted any more; returns their names.

    If they are named, those that were never submitted before are dropped: the user gave them up.
    """
    with locked(experiment):
        entries = experiment.ledger.entries()
        withdrawn = [entry for entry in waiting(entries) if tokens is None or entry.token in tokens]
        submitted = {name for entry in entries if entry.accepted is not None for name in entry.submission.eval_names}
        given_up = [name for entry in withdrawn for name in entry.submission.eval_names if name not in submitted]
        experiment.ledger.append(*(Withdrawn(entry.token, time.time()) for entry in withdrawn))
        if given_up and tokens is not None:
            experiment.ledger.append(Dropped(tuple(given_up), time.time()))
    return [entry.submission.name for entry in withdrawn]


def drop(experiment: Experiment, names: Sequence[str]) -> None:
    """Record that these evals are off the books; UsageError if one of them was just submitted, or is about to be."""
    with locked(experiment):
        entries = experiment.ledger.entries()
        underway = {name for e in entries if e.is_open or e.is_waiting for name in e.submission.eval_names}
        busy = [name for name in names if name in underway]
        if busy:
            raise UsageError(f"{busy[0]}: it is being submitted, so it cannot be dropped; try again in a minute")
        experiment.ledger.append(Dropped(tuple(names), time.time()))


def seconds_to_wait(entries: Iterable[Entry], stagger_s: float, *, now: float) -> float:
    """Seconds until the next eval may be submitted; a time in the future (a clock that was set back) is ignored."""
    last_at = last_begun_at(entries)
    passed_s = stagger_s if last_at is None or last_at > now else now - last_at
    return max(stagger_s - passed_s, 0.0)
