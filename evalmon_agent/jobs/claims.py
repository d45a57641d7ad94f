"""Records, under the lock, that this process submits an eval or that an eval waits, so that nobody else submits it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from evalmon_agent.errors import UsageError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import locked
from evalmon_agent.experiment.state import LastSaved
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


@dataclass(frozen=True, slots=True)
class Room:
    """How many evals may be with Slurm at once, and how many seconds lie between two submissions at least.

    `saved`: one for many claims, so that the state is loaded for the first of them only.
    """

    max_submit: int | None = None
    stagger_s: float = 0.0
    saved: LastSaved = field(default_factory=LastSaved)


def new_token() -> str:
    """A new, unique name for one submission."""
    return os.urandom(8).hex()


def claim(experiment: Experiment, token: str, what: What) -> None:
    """Put the intent to submit a monitor job on record."""
    with locked(experiment):
        experiment.ledger.append(_intent(Submission(token=token, what=what), time.time()))


def claim_evals(
    experiment: Experiment, submission: Submission, room: Room, *, instead_of: Mapping[Name, str] | None = None
) -> Claim:
    """Put the intent on record, unless somebody else has these evals, or there is no room or it is too soon.

    `instead_of`: for evals that were submitted before, the token that counts now; they are taken only while it does.
    """
    with locked(experiment):
        entries = experiment.ledger.index()
        if not _is_free(submission, entries, instead_of=instead_of or {}):
            return "taken"
        if room.max_submit is not None:
            active = in_queue(list(entries), room.saved.load(experiment))
            if active + submission.size > room.max_submit:
                return "no room"
        if room.stagger_s and seconds_to_wait(entries, room.stagger_s, now=time.time()) > 0:
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
