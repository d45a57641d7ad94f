"""Lists the steps of an eval's path that the log does not have yet. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from evalmon_agent.tracking.records import Logged
from evalmon_agent.tracking.timeline import Step
from evalmon_agent.words.states import State

Key = tuple[str, State]


def unlogged(path: Sequence[Step], logged: Sequence[Logged]) -> Iterator[tuple[Step, State]]:
    """The steps to log now, each with the state before it, as the log has it.

    The log only grows. A step that turns out late to have happened before something logged is left out; where path and
    log differ (LOST, and back again), the log goes on from where it is. A log that is ahead of the path, as after a
    lost state, gets nothing.

    Two attempts that ended alike differ by their Submit: accounting forgets the end of an attempt that was requeued
    after it, and the next attempt's end must not be taken for that one.
    """
    steps = [step for step in path if step.state is not State.PENDING or step.attempt is not None]
    if not steps:
        return
    previous = {entry.job_id: entry.state for entry in logged}
    for step in steps[_logged_up_to(steps, logged) :]:
        yield step, previous.get(step.job_id, State.PENDING)
        previous[step.job_id] = step.state


def _logged_up_to(steps: Sequence[Step], logged: Sequence[Logged]) -> int:
    """How many of the path's steps the log has, or has gone past.

    Example: the path is RUNNING, FAILED, PENDING, RUNNING, and the log has RUNNING, FAILED: 2. If the log has RUNNING,
    LOST instead, it has gone another way after the first step: 1, and FAILED is logged next.

    Suspensions are left out of the comparison first, since only an observer that polls at the right time sees them.
    """
    step_keys = [(step.job_id, step.state) for step in steps]
    log_keys = [(entry.job_id, entry.state) for entry in logged]
    path, log = _without_suspensions(step_keys), _without_suspensions(log_keys)
    path_to = log_to = 0
    for number, at in enumerate(log, 1):
        alike = (i for i in range(path_to, len(path)) if _is_same(steps[path[i]], logged[at]))
        match = next(alike, None)
        if match is not None:
            path_to, log_to = match + 1, number
    start, end = _between(path, path_to, len(steps))
    log_start, log_end = _between(log, log_to, len(logged))
    in_path, in_log = step_keys[start:end], log_keys[log_start:log_end]
    is_past = log_to < len(log) or in_path[: len(in_log)] != in_log
    return end if is_past else start + len(in_log)


def _is_same(step: Step, entry: Logged) -> bool:
    """Whether the log's entry may be this step; a Submit that is not known may be any."""
    submitted_at = step.attempt.submitted_at if step.attempt is not None else None
    is_one_attempt = None in {submitted_at, entry.submitted_at} or submitted_at == entry.submitted_at
    return (step.job_id, step.state) == (entry.job_id, entry.state) and is_one_attempt


def _between(marks: Sequence[int], number: int, length: int) -> tuple[int, int]:
    """The range after the first `number` marks, up to the next mark."""
    return (marks[number - 1] + 1 if number else 0), (marks[number] if number < len(marks) else length)


def _without_suspensions(keys: Sequence[Key]) -> list[int]:
    """The indices of all steps but suspensions: a SUSPENDED after RUNNING, and the RUNNING right after that."""
    kept: list[int] = []
    for i, (job_id, state) in enumerate(keys):
        before = keys[i - 1] if i else None
        interrupts = state is State.SUSPENDED and before == (job_id, State.RUNNING)
        resumes = state is State.RUNNING and before == (job_id, State.SUSPENDED) and kept[-1:] != [i - 1]
        if not interrupts and not resumes:
            kept.append(i)
    return kept
