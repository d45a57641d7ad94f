"""Of which attempt does each report speak: the jobs' own reports laid beside the attempts that Slurm knows. Pure.

SLURM_RESTART_COUNT is mostly the attempt's number. After a node vanished it may have gone up by two, and accounting
may lack the run that was lost; then order and start times tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalmon_agent.tracking.records import Attempt, Own

Pair = tuple[Attempt | None, Own | None]

SLACK_S = 60.0
"""How far outside of an attempt's time a report's start may lie, where the number alone does not tell."""

CLOCKS_DIFFER_S = 300.0
"""The same where the number cannot tell, since earlier attempts are unknown: munge refuses clocks further apart."""

_AFTER_ITS_END = 12.0
"""A second after an attempt's end weighs so much: nothing of it starts then, and the next one may."""

_UNMATCHED = 1e9
_PER_SKIPPED_S = 5.0
_MAX_CELLS = 250_000


@dataclass(frozen=True, slots=True)
class Known:
    """What else is known of the job: whether the first attempt is surely its first, and whether squeue shows it."""

    is_first: bool
    is_queued: bool


def pairs(attempts: Sequence[Attempt], owns: Sequence[Own], known: Known) -> list[Pair]:
    """The incarnations of one job, oldest first: an attempt of Slurm's, a report, or both that belong together.

    `attempts` by Submit, `owns` by restart.
    """
    matched = _matched(attempts, owns, known)
    found: list[Pair] = []
    done = 0
    waiting: list[Own] = []
    for number, own in enumerate(owns):
        if number not in matched:
            waiting.append(own)
            continue
        found += _merged(attempts[done : matched[number]], waiting)
        found.append((attempts[matched[number]], own))
        done, waiting = matched[number] + 1, []
    return [*found, *_merged(attempts[done:], waiting)]


def _matched(attempts: Sequence[Attempt], owns: Sequence[Own], known: Known) -> dict[int, int]:
    """The place of each report's attempt, by the report's own place."""
    numbers = [own.restart for own in owns]
    in_order = numbers == list(range(len(owns))) and len(owns) <= len(attempts)
    if in_order and all(_may_be(a, o, n, known) for n, (a, o) in enumerate(zip(attempts, owns, strict=False))):
        return {number: number for number in numbers}
    if len(owns) * len(attempts) > _MAX_CELLS:
        return {place: own.restart for place, own in enumerate(owns) if own.restart < len(attempts)}
    return _aligned(attempts, owns, known)


def _aligned(attempts: Sequence[Attempt], owns: Sequence[Own], known: Known) -> dict[int, int]:
    """As many as can be, in order, and of those the ones whose start times lie nearest."""
    width = len(attempts) + 1
    # costs[i][j]: the best for the reports from i on and the attempts from j on.
    costs = [[0.0] * width for _ in range(len(owns) + 1)]
    for i in reversed(range(len(owns))):
        costs[i][-1] = _UNMATCHED * (len(owns) - i)
        for j in reversed(range(len(attempts))):
            costs[i][j] = min(costs[i + 1][j] + _UNMATCHED, costs[i][j + 1])
            if _may_be(attempts[j], owns[i], j, known):
                costs[i][j] = min(costs[i][j], costs[i + 1][j + 1] + _distance(attempts[j], owns[i], j))
    return dict(_walk(costs, attempts, owns, known))


def _walk(
    costs: Sequence[Sequence[float]], attempts: Sequence[Attempt], owns: Sequence[Own], known: Known
) -> Iterator[tuple[int, int]]:
    i = j = 0
    while i < len(owns) and j < len(attempts):
        may_be = _may_be(attempts[j], owns[i], j, known)
        if may_be and costs[i][j] == costs[i + 1][j + 1] + _distance(attempts[j], owns[i], j):
            yield i, j
            i, j = i + 1, j + 1
        elif costs[i][j] == costs[i][j + 1]:
            j += 1
        else:
            i += 1


def _may_be(attempt: Attempt, own: Own, number: int, known: Known) -> bool:
    """Whether the report can be this attempt's: restarts count at least the attempts before it.

    Its own number is enough for one that ran; while squeue shows it waiting, an earlier start was another's.
    """
    is_vague = attempt.ran and not known.is_first
    unseen = not known.is_queued and attempt.ended_at is None
    is_early = _early_s(attempt, own) > CLOCKS_DIFFER_S
    is_enough = ((attempt.ran or unseen) and not is_early) if number else known.is_first
    if own.restart <= number and is_enough:
        return own.restart == number
    return own.restart >= number and _outside_s(attempt, own) <= (CLOCKS_DIFFER_S if is_vague else SLACK_S)


def _outside_s(attempt: Attempt, own: Own) -> float:
    """How long before the attempt's start, or after its end, the reported start lies."""
    if own.started_at is None:
        return 0.0
    late_s = own.started_at - attempt.ended_at if attempt.ended_at is not None else 0.0
    return max(_early_s(attempt, own), _AFTER_ITS_END * late_s, 0.0)


def _early_s(attempt: Attempt, own: Own) -> float:
    begun = attempt.started_at if attempt.started_at is not None else attempt.submitted_at
    return 0.0 if own.started_at is None or begun is None else begun - own.started_at


def _distance(attempt: Attempt, own: Own, number: int) -> float:
    """How far apart their starts are, in seconds; a skipped number weighs little."""
    skipped_s = _PER_SKIPPED_S * (own.restart - number)
    if own.started_at is None or attempt.started_at is None:
        return _outside_s(attempt, own) + skipped_s
    return abs(own.started_at - attempt.started_at) + skipped_s


def _merged(attempts: Sequence[Attempt], owns: Sequence[Own]) -> Iterator[Pair]:
    """Attempts without a report and reports without an attempt, by time."""
    left = list(attempts)
    for own in owns:
        while left and own.started_at is not None and (left[0].submitted_at or 0.0) <= own.started_at:
            yield left.pop(0), None
        yield None, own
    for attempt in left:
        yield attempt, None
