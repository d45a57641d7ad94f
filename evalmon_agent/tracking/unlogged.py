"""What does the log lack: the path so far, laid beside the transitions that are logged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalmon_agent.tracking.path import Step
from evalmon_agent.words.states import State

Key = tuple[str, State]
Stamp = float | None
"""An attempt's Submit; None: not known, so that it may be any."""


def unlogged(
    path: Sequence[Step], logged: Sequence[Key], *, stamps: Sequence[Stamp] = (), logged_stamps: Sequence[Stamp] = ()
) -> Iterator[tuple[Step, State]]:
    """The steps to log now, each with the state before it, as the log has it.

    The log only grows: what turns out late to have happened before something logged is left out, and where the
    path took another turn than the log (LOST, and back again) the log goes on from where it is. A log that is
    ahead of the path, as after a lost state, gets nothing.

    `stamps` (of Eval.attempts) and `logged_stamps` (of `logged`) tell apart two attempts that ended alike: accounting
    forgets the end of one that was requeued after it, and the next one's end is not that.
    """
    steps = [step for step in path if step.state is not State.PENDING or step.attempt is not None]
    of_steps = [_at(stamps, step.attempt) for step in steps]
    of_log = logged_stamps or [None] * len(logged)
    previous = dict(logged)
    for step in steps[_logged_up_to([(s.job_id, s.state) for s in steps], logged, of_steps, of_log) :]:
        yield step, previous.get(step.job_id, State.PENDING)
        previous[step.job_id] = step.state


def _logged_up_to(
    keys: Sequence[Key], logged: Sequence[Key], stamps: Sequence[Stamp], logged_stamps: Sequence[Stamp]
) -> int:
    """How many of the path's steps the log has, or has gone past.

    Suspensions are laid aside first: only who looks at the right time sees them.
    """
    path, log = _without_suspensions(keys), _without_suspensions(logged)
    known = found = 0
    for number, at in enumerate(log, 1):
        mine = logged_stamps[at]
        alike = (i for i in range(known, len(path)) if keys[path[i]] == logged[at])
        same = (i for i in alike if mine is None or stamps[path[i]] in {None, mine})
        match = next(same, None)
        if match is not None:
            known, found = match + 1, number
    start, end = _between(path, known, len(keys))
    log_start, log_end = _between(log, found, len(logged))
    seen, told = list(keys[start:end]), list(logged[log_start:log_end])
    is_told = found < len(log) or seen[: len(told)] != told
    return end if is_told else start + len(told)


def _at(stamps: Sequence[Stamp], number: int | None) -> Stamp:
    return stamps[number] if number is not None and number < len(stamps) else None


def _between(marks: Sequence[int], number: int, length: int) -> tuple[int, int]:
    """From behind the first `number` marks up to the next one."""
    return (marks[number - 1] + 1 if number else 0), (marks[number] if number < len(marks) else length)


def _without_suspensions(keys: Sequence[Key]) -> list[int]:
    """The places of all but the suspensions: SUSPENDED behind RUNNING, and the RUNNING right behind that."""
    kept: list[int] = []
    for i, (job_id, state) in enumerate(keys):
        before = keys[i - 1] if i else None
        interrupts = state is State.SUSPENDED and before == (job_id, State.RUNNING)
        resumes = state is State.RUNNING and before == (job_id, State.SUSPENDED) and kept[-1:] != [i - 1]
        if not interrupts and not resumes:
            kept.append(i)
    return kept
