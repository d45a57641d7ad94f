"""Derives from all facts the attempts and states that an eval went through, and what is still to be logged and asked.

Pure. The order of the facts never matters. Which of the job's own reports belongs to which attempt that Slurm knows:
SLURM_RESTART_COUNT is usually the attempt's number. After a node failed it may have gone up by two, and accounting may
lack the run that was lost; then order and start times decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from evalmon_agent.tracking.records import Attempt, AttemptKey, Eval, ExperimentState, Job, JobReport, Logged
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import MAY_RUN_AGAIN, TERMINAL, State

Pair = tuple[Attempt | None, JobReport | None]
_Pairs: TypeAlias = "tuple[int, int, _Pairs] | None"

SLACK_S = 60.0
"""How far outside an attempt's time a report's start may lie if the restart number alone does not decide."""

CLOCKS_DIFFER_S = 300.0
"""The same if earlier attempts are unknown, so that numbers say nothing: munge refuses clocks further apart."""

_AFTER_ITS_END = 12.0
"""The weight of each second after an attempt's end: nothing of it starts then, but the next attempt may."""

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


def unmatched_reports(job: Job) -> list[JobReport]:
    """The reports of attempts that Slurm, as far as it was asked, does not know."""
    return [report for attempt, report in _pairs_of(job) if attempt is None and report is not None]


def _pairs_of(job: Job) -> list[Pair]:
    attempts = [attempt for attempt in job.attempts if attempt.submitted_at is not None]
    attempts.sort(key=lambda attempt: attempt.submitted_at or 0.0)
    begun = attempts[0].submitted_at if attempts else None
    is_first = job.token is not None and (begun is None or begun <= job.registered_at + FIRST_SUBMIT_S)
    reports = [attempt.report for attempt in job.attempts if attempt.report is not None]
    reports.sort(key=lambda report: report.restart)
    return pairs(attempts, reports, JobFacts(is_first=is_first, is_queued=job.missing_at is None))


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
    runs: list[Pair] = []
    placed = 0
    waiting: list[JobReport] = []
    for number, report in enumerate(reports):
        if number not in matched:
            waiting.append(report)
            continue
        runs += _merged(attempts[placed : matched[number]], waiting)
        runs.append((attempts[matched[number]], report))
        placed, waiting = matched[number] + 1, []
    return [*runs, *_merged(attempts[placed:], waiting)]


def _matched(attempts: Sequence[Attempt], reports: Sequence[JobReport], facts: JobFacts) -> dict[int, int]:
    """The place of each report's attempt, by the report's own place."""
    numbers = [report.restart for report in reports]
    is_in_order = numbers == list(range(len(reports))) and len(reports) <= len(attempts)
    if is_in_order and all(_may_be(a, o, n, facts) for n, (a, o) in enumerate(zip(attempts, reports, strict=False))):
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

    A report's restart number is never below the attempt's number. If the two are equal, that is enough for an attempt
    that ran; while squeue shows it waiting, a reported start belongs to an earlier attempt. Otherwise the report's
    start must lie in the attempt's time.

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


ReportedBy = Literal["sacct", "squeue", "self", "none"]
"""Who reported an end."""

ACCOUNTING_LAG_S = 120.0
"""How long sacct may not list an ended job before another witness decides."""

ENDS = TERMINAL | {State.REQUEUED}
"""The states in accounting of an attempt that is over."""

LIVE = frozenset({State.RUNNING, State.SUSPENDED})


@dataclass(frozen=True, slots=True)
class Step:
    """One state on the path; `at`: when it began, if known; `attempt`: the attempt that it belongs to.

    `witness`: who reported an end; None for a state that is not an end.
    """

    job_id: JobId
    state: State
    at: float | None
    attempt: Attempt | None
    witness: ReportedBy | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """An eval took this step, from the state `previous`."""

    ev: Eval
    previous: State
    step: Step


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that ran and ended. As an event: its figures are known now, or known to be unavailable."""

    ev: Eval
    job: Job
    attempt: Attempt

    @property
    def key(self) -> AttemptKey:
        """Identifies it in any copy of the state."""
        return self.ev.name, self.job.job_id, self.attempt.submitted_at, self.attempt.restart

    @property
    def is_latest(self) -> bool:
        """Whether seff knows it; seff knows only a job's last attempt."""
        return self.attempt is self.job.latest


Event = Transition | EndedAttempt


def steps(ev: Eval, *, lost_after_s: float) -> list[Step]:
    """The path so far. It stops before the first unknown step; later steps wait until that is known."""
    path: list[Step] = []
    for job in ev.jobs:
        path.append(Step(job.job_id, State.PENDING, job.registered_at, None))
        if not _job_steps(job, path, lost_after_s=lost_after_s):
            break
    return path


def ending(job: Job, attempt: Attempt, *, lost_after_s: float) -> Step | None:
    """How the attempt ended; None while it goes on or the end is unknown.

    Accounting decides; then squeue's last word; then the job's own report; and only after `lost_after_s`
    without any of them, LOST.
    """
    state = slurm_says(attempt)
    if state is not None and attempt.account_state in ENDS:
        return Step(job.job_id, state, attempt.ended_at, attempt, "sacct")
    if state is not None and attempt.queue_state in TERMINAL:
        return Step(job.job_id, state, attempt.ended_at, attempt, "squeue")
    since = replaced_at(attempt)
    if attempt is not job.latest or since is not None:
        return _replaced(job, attempt, since=since)
    return _vanished(job, attempt, lost_after_s=lost_after_s)


def is_final(ev: Eval, path: list[Step]) -> bool:
    """Whether the eval's last job is over for good, so that Slurm will not start it again by itself.

    A node's failure or a preemption is final once squeue, too, shows the job as ended, or does not show it and
    accounting, asked after that, knows of no further attempt.
    """
    last = path[-1] if path else None
    if last is None or last.job_id != ev.job_id or last.state not in TERMINAL:
        return False
    if last.state not in MAY_RUN_AGAIN or last.attempt is None:
        return True
    job = ev.jobs[-1]
    asked_since = job.missing_at is not None and (job.no_accounting or job.answered_at >= job.missing_at)
    return asked_since or last.attempt.queue_state in TERMINAL


def is_history_known(job: Job, attempt: Attempt) -> bool:
    """Whether no earlier attempt can be missing: squeue shows only the latest, and accounting gets time to report."""
    submitted_at = attempt.submitted_at
    if job.token is None or submitted_at is None or submitted_at <= job.registered_at + FIRST_SUBMIT_S:
        return True
    has_answered = attempt.account_state is not None or job.answered_at >= submitted_at + ACCOUNTING_LAG_S
    return has_answered or job.no_accounting


def slurm_says(attempt: Attempt) -> State | None:
    """The attempt's last state by Slurm: from accounting if that reports an end, else from squeue."""
    if attempt.account_state is not None and attempt.account_state in ENDS:
        return attempt.account_state
    return attempt.queue_state or attempt.account_state


def replaced_at(attempt: Attempt) -> float | None:
    """Since when it is known that Slurm will run, or has run, this job again; None: not the case, or unknown."""
    if attempt.queue_state is State.REQUEUED and attempt.has_run:
        return attempt.superseded_at or attempt.queue_at
    return attempt.superseded_at


def _job_steps(job: Job, path: list[Step], *, lost_after_s: float) -> bool:
    """Append the job's steps; False if its end is unknown (yet)."""
    if not job.attempts:
        lost = _vanished(job, None, lost_after_s=lost_after_s)
        if lost is not None:
            path.append(lost)
        return lost is not None
    for number, attempt in enumerate(job.attempts):
        if number:
            path.append(Step(job.job_id, State.PENDING, attempt.submitted_at, attempt))
        running = list(_running(job, attempt))
        if not is_history_known(job, attempt):
            path.extend(running[:1])
            return False
        path.extend(running)
        end = ending(job, attempt, lost_after_s=lost_after_s)
        if end is None:
            return False
        path.append(end)
    return path[-1].state in TERMINAL


def _running(job: Job, attempt: Attempt) -> Iterator[Step]:
    report = attempt.report
    started_at = attempt.started_at if attempt.started_at is not None or report is None else report.started_at
    if report is not None or attempt.running_seen_at is not None or (attempt.ran and started_at is not None):
        yield Step(job.job_id, State.RUNNING, started_at, attempt)
        for at, state in attempt.suspensions:
            yield Step(job.job_id, state, at, attempt)


def _replaced(job: Job, attempt: Attempt, *, since: float | None) -> Step | None:
    """The end of an attempt that was requeued; accounting gets time to report how it ended."""
    answered = since is not None and job.answered_at >= since + ACCOUNTING_LAG_S
    if job.no_accounting or answered:
        ended_at = attempt.report.ended_at if attempt.report is not None else None
        return Step(job.job_id, State.REQUEUED, ended_at, attempt, "none")
    return None


def _vanished(job: Job, attempt: Attempt | None, *, lost_after_s: float) -> Step | None:
    """The end of a job that neither squeue nor accounting knows any more."""
    if job.missing_at is None or job.unaccounted_at is None:
        return None
    report = attempt.report if attempt is not None else None
    if report is not None and report.ended and (job.no_accounting or job.unknown_s >= ACCOUNTING_LAG_S):
        state = State.COMPLETED if report.exit_code == 0 else State.FAILED
        return Step(job.job_id, state, report.ended_at, attempt, "self")
    if job.unknown_s >= lost_after_s and not (attempt is not None and _may_run(attempt, at=job.unaccounted_at)):
        return Step(job.job_id, State.LOST, None, attempt, "none")
    return None


def _may_run(attempt: Attempt, *, at: float) -> bool:
    """Whether accounting says that it runs, within its limit: its absence from squeue proves nothing then."""
    if attempt.account_state not in LIVE or attempt.started_at is None or attempt.time_limit_s is None:
        return False
    return at < attempt.started_at + attempt.time_limit_s


Key = tuple[str, State]


def unlogged(path: Sequence[Step], logged: Sequence[Logged]) -> Iterator[tuple[Step, State]]:
    """The steps to log now, each with the state before it, as the log has it.

    The log only grows. A step that turns out late to have happened before something logged is left out; where path and
    log differ (LOST, and back again), the log goes on from where it is. A log that is ahead of the path, as after a
    lost state, gets nothing.

    Two attempts that ended alike differ by their Submit: once an ended attempt is requeued, accounting no longer has
    its end, and the next attempt's end must not be taken for it.
    """
    to_log = [step for step in path if step.state is not State.PENDING or step.attempt is not None]
    if not to_log:
        return
    previous = {entry.job_id: entry.state for entry in logged}
    for step in to_log[_logged_up_to(to_log, logged) :]:
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


def ids_to_account(ev: Eval) -> list[JobId]:
    """The ids of its jobs to ask sacct about: missing or ended in squeue, requeued, or ended without figures."""
    return [] if _is_settled(ev) else [job.job_id for job in ev.jobs if _is_open(ev, job)]


def in_order(job_ids: Iterable[JobId]) -> list[JobId]:
    """Older jobs first."""
    return sorted(job_ids, key=lambda job_id: (len(job_id), job_id))


def unmeasured(state: ExperimentState) -> Iterator[EndedAttempt]:
    """The attempts whose COMPUTE_METRICS is still owed."""
    return (owed for ev in state.evals.values() for owed in owed_by(ev))


def owed_by(ev: Eval) -> Iterator[EndedAttempt]:
    """The same for one eval."""
    for job in ev.jobs:
        for attempt in job.attempts:
            if attempt.figures is None and attempt.has_run and _is_over(ev, job, attempt):
                yield EndedAttempt(ev, job, attempt)


def _is_over(ev: Eval, job: Job, attempt: Attempt) -> bool:
    """Whether a later attempt follows, or the log says that the job has ended."""
    return attempt is not job.latest or ev.logged_state(job.job_id) in TERMINAL


def _is_settled(ev: Eval) -> bool:
    """Whether accounting has reported everything, as for most of a large experiment, which must cost a poll nothing."""
    if not ev.final or len(ev.jobs) > 1 or ev.latest is None:
        return False
    return all(a.account_state in ENDS and a.accounted is not None for a in ev.jobs[0].attempts)


def _is_open(ev: Eval, job: Job) -> bool:
    latest = job.latest
    is_over = latest is not None and (latest.account_state in TERMINAL or latest.queue_state in TERMINAL)
    if job.missing_at is not None and not ev.final and not (is_over and job.job_id != ev.job_id):
        return True
    if latest is not None and not is_history_known(job, latest):
        return True
    return any(_is_owed(ev, job, attempt) for attempt in job.attempts)


def _is_owed(ev: Eval, job: Job, attempt: Attempt) -> bool:
    """Whether accounting has not yet reported how an ended attempt ended, or what it used."""
    since = replaced_at(attempt)
    ended = attempt is not job.latest or since is not None or attempt.queue_state in TERMINAL
    if not ended or _is_accounted(attempt):
        return False
    if since is not None and job.answered_at < since + ACCOUNTING_LAG_S:
        return True
    # There is little to know about an attempt that never ran: one answer is enough.
    return attempt.figures is None if attempt.has_run else not (ev.final and job.answered_at)


def _is_accounted(attempt: Attempt) -> bool:
    return attempt.account_state in ENDS and (attempt.accounted is not None or not attempt.has_run)
