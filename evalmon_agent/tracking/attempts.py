"""Matches a job's own reports with the attempts that Slurm knows. Pure.

SLURM_RESTART_COUNT is usually the attempt's number. After a node failed it may have gone up by two, and accounting
may lack the run that was lost; then order and start times decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from evalmon_agent.tracking.records import Attempt, Job, JobReport

Pair = tuple[Attempt | None, JobReport | None]
_Pairs: TypeAlias = "tuple[int, int, _Pairs] | None"

SLACK_S = 60.0
"""How far outside an attempt's time a report's start may lie if the restart number alone does not decide."""

CLOCKS_DIFFER_S = 300.0
"""The same if earlier attempts are unknown, so that numbers say nothing: munge refuses clocks further apart."""

_AFTER_ITS_END = 12.0
"""How many times a second after an attempt's end counts: nothing of it starts then, but the next attempt may."""

FIRST_SUBMIT_S = 5.0
"""How long after our sbatch the Submit of a job's first attempt may lie; a later one points to a requeue."""

_UNMATCHED = 1e9
_PER_SKIPPED_S = 5.0
_MAX_CELLS = 250_000


@dataclass(frozen=True, slots=True)
class JobFacts:
    """`is_first`: the first known attempt is certainly the job's first; `is_queued`: squeue still shows the job."""

    is_first: bool
    is_queued: bool


def align(job: Job) -> None:
    """Match the job's reports with its attempts again; a report without an attempt gets a new one."""
    unknown = {attempt.restart: attempt for attempt in job.attempts if attempt.submitted_at is None}
    aligned: list[Attempt] = []
    for known_to_slurm, report in _pairs_of(job):
        only_reported = unknown.get(report.restart) if report is not None else None
        attempt = known_to_slurm or only_reported or Attempt(restart=report.restart if report is not None else None)
        if known_to_slurm is not None and only_reported is not None:
            _inherit(known_to_slurm, only_reported)
        attempt.report = report
        aligned.append(attempt)
    if aligned:
        aligned[-1].superseded_at = None
    job.attempts = aligned


def put_report(job: Job, report: JobReport) -> None:
    """Take in a report; it replaces an earlier version of itself."""
    holder = next((a for a in job.attempts if a.report is not None and a.report.restart == report.restart), None)
    if holder is None:
        holder = Attempt(restart=report.restart)
        job.attempts.append(holder)
    holder.report = report
    align(job)


def reports_of(job: Job) -> list[JobReport]:
    """What the job reported of its attempts, by restart."""
    reports = [attempt.report for attempt in job.attempts if attempt.report is not None]
    return sorted(reports, key=lambda report: report.restart)


def unmatched_reports(job: Job) -> list[JobReport]:
    """The reports of attempts that Slurm, as far as it was asked, does not know."""
    return [report for attempt, report in _pairs_of(job) if attempt is None and report is not None]


def _pairs_of(job: Job) -> list[Pair]:
    attempts = [attempt for attempt in job.attempts if attempt.submitted_at is not None]
    attempts.sort(key=lambda attempt: attempt.submitted_at or 0.0)
    begun = attempts[0].submitted_at if attempts else None
    is_first = job.token is not None and (begun is None or begun <= job.registered_at + FIRST_SUBMIT_S)
    return pairs(attempts, reports_of(job), JobFacts(is_first=is_first, is_queued=job.missing_at is None))


def _inherit(attempt: Attempt, only_reported: Attempt) -> None:
    """Slurm turns out to know an attempt that was known by its report only: keep what was found out about it."""
    attempt.superseded_at = attempt.superseded_at or only_reported.superseded_at
    if attempt.figures is None:
        attempt.figures, attempt.evidence = only_reported.figures, only_reported.evidence


def pairs(attempts: Sequence[Attempt], reports: Sequence[JobReport], facts: JobFacts) -> list[Pair]:
    """The runs of one job, oldest first: an attempt that Slurm knows, a report, or both that belong together.

    `attempts` by Submit, `reports` by restart.
    """
    matched = _matched(attempts, reports, facts)
    in_order: list[Pair] = []
    placed = 0
    waiting: list[JobReport] = []
    for number, report in enumerate(reports):
        if number not in matched:
            waiting.append(report)
            continue
        in_order += _merged(attempts[placed : matched[number]], waiting)
        in_order.append((attempts[matched[number]], report))
        placed, waiting = matched[number] + 1, []
    return [*in_order, *_merged(attempts[placed:], waiting)]


def _matched(attempts: Sequence[Attempt], reports: Sequence[JobReport], facts: JobFacts) -> dict[int, int]:
    """The place of each report's attempt, by the report's own place."""
    numbers = [report.restart for report in reports]
    in_order = numbers == list(range(len(reports))) and len(reports) <= len(attempts)
    if in_order and all(_may_be(a, o, n, facts) for n, (a, o) in enumerate(zip(attempts, reports, strict=False))):
        return {number: number for number in numbers}
    if len(reports) * len(attempts) > _MAX_CELLS:
        return {place: report.restart for place, report in enumerate(reports) if report.restart < len(attempts)}
    return _aligned(attempts, reports, facts)


def _aligned(attempts: Sequence[Attempt], reports: Sequence[JobReport], facts: JobFacts) -> dict[int, int]:
    """The largest matching that keeps the order; among several, the one with the closest start times."""
    # best[j]: the lowest cost of matching the reports from i on with the attempts from j on, and the pairs, linked.
    best: list[tuple[float, _Pairs]] = [(0.0, None)] * (len(attempts) + 1)
    for i, report in reversed(list(enumerate(reports))):
        fewer_reports = best
        best = [*fewer_reports[:-1], (fewer_reports[-1][0] + _UNMATCHED, None)]
        for j, attempt in reversed(list(enumerate(attempts))):
            choices = [best[j + 1], (fewer_reports[j][0] + _UNMATCHED, fewer_reports[j][1])]
            if _may_be(attempt, report, j, facts):
                cost, others = fewer_reports[j + 1]
                choices.insert(0, (cost + _distance(attempt, report, j), (i, j, others)))
            best[j] = min(choices, key=lambda choice: choice[0])
    matching, pair = {}, best[0][1]
    while pair is not None:
        i, j, pair = pair
        matching[i] = j
    return matching


def _may_be(attempt: Attempt, report: JobReport, number: int, facts: JobFacts) -> bool:
    """Whether this report can be of this attempt, the `number`th that Slurm knows (from 0).

    `report.restart` counts at least the known attempts before it. The same number is enough if the attempt ran; while
    squeue shows it waiting, a reported start belongs to an earlier attempt. Otherwise the start must lie in its time.

    Example: accounting has one attempt, started at 10:00, since it lost an earlier one. A report with restart 1 and
    start 10:00 can be of it (1 >= 0, and the times agree); one with restart 0 and start 09:00 cannot.
    """
    is_vague = attempt.ran and not facts.is_first
    unseen = not facts.is_queued and attempt.ended_at is None
    is_early = _early_s(attempt, report) > CLOCKS_DIFFER_S
    is_enough = ((attempt.ran or unseen) and not is_early) if number else facts.is_first
    if report.restart <= number and is_enough:
        return report.restart == number
    return report.restart >= number and _outside_s(attempt, report) <= (CLOCKS_DIFFER_S if is_vague else SLACK_S)


def _outside_s(attempt: Attempt, report: JobReport) -> float:
    """How long before the attempt's start, or (weighted) after its end, the reported start lies; 0 in between."""
    if report.started_at is None:
        return 0.0
    late_s = report.started_at - attempt.ended_at if attempt.ended_at is not None else 0.0
    return max(_early_s(attempt, report), _AFTER_ITS_END * late_s, 0.0)


def _early_s(attempt: Attempt, report: JobReport) -> float:
    begun = attempt.started_at if attempt.started_at is not None else attempt.submitted_at
    return 0.0 if report.started_at is None or begun is None else begun - report.started_at


def _distance(attempt: Attempt, report: JobReport, number: int) -> float:
    """How far apart their starts are, in seconds; a skipped number weighs little."""
    skipped_s = _PER_SKIPPED_S * (report.restart - number)
    if report.started_at is None or attempt.started_at is None:
        return _outside_s(attempt, report) + skipped_s
    return abs(report.started_at - attempt.started_at) + skipped_s


def _merged(attempts: Sequence[Attempt], reports: Sequence[JobReport]) -> Iterator[Pair]:
    """Attempts without a report and reports without an attempt, by time."""
    left = list(attempts)
    for report in reports:
        while left and report.started_at is not None and (left[0].submitted_at or 0.0) <= report.started_at:
            yield left.pop(0), None
        yield None, report
    for attempt in left:
        yield attempt, None
