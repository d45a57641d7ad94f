"""Lists the evals that wait to be submitted, that Slurm refused or the user dropped; counts those with Slurm. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from evalmon_agent.tracking.records import ExperimentState, Refusal, Waiting
from evalmon_agent.tracking.registry import Entry, Name, eval_name


def latest(entries: Iterable[Entry]) -> dict[Name, Entry]:
    """The submission that counts for each eval: the last one that Slurm accepted, that is on its way, or that waits."""
    counting: dict[Name, Entry] = {}
    for entry in entries:
        if entry.accepted is not None or entry.is_open or entry.is_waiting:
            counting.update(dict.fromkeys(entry.submission.names, entry))
    return counting


def waiting(entries: Sequence[Entry]) -> list[Entry]:
    """The submissions that wait for room, in order; without those whose evals were submitted in another way."""
    return [entry for entry in unsubmitted(entries) if entry.is_waiting]


def unsubmitted(entries: Sequence[Entry]) -> list[Entry]:
    """Those that wait, and those on their way, which may come back until Slurm's answer is recorded."""
    counting = latest(entries)
    return [
        entry
        for entry in entries
        if entry.planned is not None
        and (entry.is_waiting or entry.is_open)
        and all(counting[name] is entry for name in entry.submission.names)
    ]


def refused(entries: Iterable[Entry]) -> dict[str, Refusal]:
    """By name, the evals whose last submission Slurm refused for good; also where an earlier one was accepted."""
    refusals: dict[str, Refusal] = {}
    for entry in entries:
        names = entry.submission.eval_names
        if entry.is_refused and entry.refused is not None:
            refusal = Refusal(entry.refused.at, entry.refused.error, entry.submission.script)
            refusals.update(dict.fromkeys(names, refusal))
        elif refusals and (entry.accepted is not None or entry.is_open or entry.is_waiting):
            for name in names:
                refusals.pop(name, None)
    return refusals


def dropped(entries: Iterable[Entry]) -> dict[str, float]:
    """By name, the evals that the user dropped, and when; without those that were submitted (or adopted) again.

    What never reached Slurm, because its submitter died or it was withdrawn, brings none back.
    """
    drops: dict[str, float] = {}
    for entry in entries:
        if entry.dropped is not None:
            drops.update(dict.fromkeys(entry.dropped.names, entry.at))
        elif drops and (entry.accepted is not None or entry.is_open or entry.is_waiting or entry.is_refused):
            for name in entry.submission.eval_names:
                drops.pop(name, None)
    return drops


def in_queue(entries: Sequence[Entry], state: ExperimentState | None) -> int:
    """How many evals are with Slurm or on their way, that is, not known to be over."""
    return sum(not entry.is_waiting and not _is_over(entry, name, state) for name, entry in latest(entries).items())


def last_begun_at(entries: Iterable[Entry]) -> float | None:
    """When the last eval was given to sbatch (epoch)."""
    return max((e.at for e in entries if e.is_eval and e.has_begun), default=None)


def update_unsubmitted(state: ExperimentState, entries: Sequence[Entry]) -> None:
    """Set `waiting`, `on_their_way`, `refused` and `dropped` by the registry."""
    state.refused, state.dropped = refused(entries), dropped(entries)
    state.on_their_way = sum(entry.is_open and entry.is_eval for entry in entries)
    before = state.waiting
    state.waiting = {
        name: before.get(name) or Waiting(since=e.planned.at, script=e.submission.script)
        for e in unsubmitted(entries)
        for name in e.submission.eval_names
        if e.planned is not None
    }
    if not state.waiting:
        state.waiting_for = None


def _is_over(entry: Entry, name: Name, state: ExperimentState | None) -> bool:
    ev = state.evals.get(eval_name(name)) if state is not None else None
    # An adopted job has no token; its entry's is empty.
    return ev is not None and ev.final and ev.jobs[-1].token == (entry.token or None)
