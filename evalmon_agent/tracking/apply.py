"""Finds the job of one observation (registration, self-report, answer of squeue or sacct), and applies it. Pure.

Each is kept so that a later look gives the same whatever came first. An attempt's state only goes forward
(pending, running, ended), whatever the clocks say; times decide only where nothing else can, and there a stamp
is believed to be older than another only if it is so by less than STALE_S: more than that is a clock set back.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from evalmon_agent.figures import from_sacct, with_limit
from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.alerts import base
from evalmon_agent.tracking.attempts import align, put_report, reports_of, unmatched_reports
from evalmon_agent.tracking.records import (
    AccountAnswer,
    Attempt,
    Eval,
    ExperimentState,
    Job,
    JobReport,
    QueueAnswer,
    SelfReport,
)
from evalmon_agent.tracking.registry import Registration, Submission
from evalmon_agent.tracking.timeline import ENDS, LIVE, is_history_known
from evalmon_agent.words.eval_names import name_from_path, task_name
from evalmon_agent.words.job_id import JobId, component_of, task_of, whole_job
from evalmon_agent.words.printable import printable
from evalmon_agent.words.states import MAY_RUN_AGAIN, TERMINAL, State, cancelled_by

CLOCK_SLACK_S = 60.0
"""How far before evalmon's sbatch a Submit time may lie; an older one belongs to an earlier job with the same id."""

RUNS_AGAIN = MAY_RUN_AGAIN | {State.REQUEUED}
"""The states in accounting of an attempt that Slurm itself runs again."""

Tracked = tuple[Eval, Job]

STALE_S = 600.0
"""How old an answer may be when it is folded: more than any call and any wait for the lock takes."""

MAX_SILENCE_S = 900.0
"""The most that one pause between two answers counts: more than any back-off, but not a clock set forward."""


def apply_registration(state: ExperimentState, fact: Registration) -> Tracked:
    """Give the eval this job, unless it has it already."""
    submission = fact.submission
    token = submission.token or None
    ev = state.evals.get(submission.name)
    if ev is None:
        ev = state.evals[submission.name] = Eval(name=submission.name, job_id=fact.job_id)
    job = next((j for j in ev.jobs if j.job_id == fact.job_id), None)
    if job is None:
        job = Job(fact.job_id, fact.registered_at, token, fact.submitted_at)
        ev.jobs.append(job)
        _apply_recovered(state, ev, job)
    elif job.token is None and token is not None:
        job.token, job.registered_at = token, fact.registered_at
        for attempt in job.attempts:
            if attempt.report is not None and attempt.report.token not in {None, token}:
                attempt.report = None
        align(job)
    job.output, job.errors = fact.output or job.output, fact.errors or job.errors
    ev.jobs.sort(key=lambda j: (j.registered_at, j.job_id))
    ev.final = False
    ev.job_id = ev.jobs[-1].job_id
    ev.script = submission.script or ev.script
    ev.output_dir = submission.output_dir or ev.output_dir
    return ev, job


def reporter(index: JobIndex, report: SelfReport) -> Tracked | None:
    """The registered job that sent this report."""
    for ev, job in index.of(report.job_id):
        if job.token is None or not report.tokens or job.token in report.tokens:
            return ev, job
    return None


def registration_of(
    state: ExperimentState, index: JobIndex, report: SelfReport, *, queue: QueueAnswer | None
) -> Registration | None:
    """A registration for a job that is not registered but reports to this experiment; None if it is no such job."""
    is_part = component_of(report.job_id) is not None and bool(index.of(whole_job(report.job_id)))
    first = min((r.started_at for r in report.attempts if r.started_at is not None), default=None)
    if index.of(report.job_id) or is_part or first is None:
        return None
    name = report.name or name_for(state, report, queue)
    return None if name is None else Registration(Submission(name, output_dir=report.output_dir), report.job_id, first)


def apply_report(ev: Eval, job: Job, report: SelfReport) -> None:
    """Apply what a job reported about its attempts."""
    for attempt_report in report.attempts:
        _apply_attempt_report(ev, job, attempt_report)


def apply_queue(
    index: JobIndex, rows: Iterable[SqueueRow], evals: Iterable[Eval], *, asked_at: float
) -> set[tuple[str, JobId]]:
    """Apply what squeue shows of these evals' jobs, and that it does not show some, or shows them as ended.

    `rows`: all those of these jobs. Returns those that are shown as active, by the eval's name and the job's id.
    """
    active: set[tuple[str, JobId]] = set()
    for row in rows:
        tracked = index.in_queue(row)
        if tracked is None:
            continue
        ev, job = tracked
        if row.state not in TERMINAL:
            active.add((ev.name, job.job_id))
        if not _repeats_the_end(ev, job, row):
            _apply_queue_row(ev, job, row, asked_at=asked_at)
    for ev in evals:
        for job in ev.jobs:
            if (ev.name, job.job_id) in active:
                _apply_presence(job, asked_at=asked_at)
            elif not ev.final or was_missing_too_early(ev, job):
                _apply_absence(job, asked_at=asked_at)
    return active


def _apply_queue_row(ev: Eval, job: Job, row: SqueueRow, *, asked_at: float) -> None:
    ev.final = False
    if job.token is None and ev.script is None:
        ev.script = script_in(row)
    if row.submitted_at is not None:
        attempt = attempt_for(job, row.submitted_at)
        _recall_suspension(ev, job, attempt, asked_at=asked_at)
        _apply_row(attempt, row, asked_at=asked_at)
        _mark_superseded(job, at=asked_at)


def _repeats_the_end(ev: Eval, job: Job, row: SqueueRow) -> bool:
    """Whether the row repeats the end of an eval that is over: squeue shows ended jobs for minutes.

    Such an eval is left as it is, or thousands of them would be settled and saved anew at each poll.
    """
    last = job.latest
    if not ev.final or row.state not in TERMINAL or last is None:
        return False
    return (last.submitted_at, last.queue_state) == (row.submitted_at, row.state)


def apply_account(index: JobIndex, answer: AccountAnswer) -> None:
    """Apply sacct's answer: its rows, and that it knows nothing more about the jobs that it was asked about."""
    for row in () if answer.disabled else answer.jobs:
        tracked = index.in_accounts(row)
        if tracked is None or row.submitted_at is None or answer.user not in {None, row.user}:
            continue
        ev, job = tracked
        ev.final = False
        _apply_accounted(attempt_for(job, row.submitted_at), row, asked_at=answer.asked_at)
    for job_id in answer.asked:
        for _, job in index.of(job_id):
            _apply_answered(job, answer)


def is_stale(asked_at: float, known_at: float) -> bool:
    """Whether an answer is older than what is known; a time far in the future means that a clock was set back."""
    return 0 < known_at - asked_at <= STALE_S


def _apply_recovered(state: ExperimentState, ev: Eval, job: Job) -> None:
    """Note as logged what the log of a lost state has about this job."""
    logged = state.recovered.logged if state.recovered is not None else {}
    name, job_id = printable(ev.name), printable(job.job_id)
    transitions = logged.pop(name, [])
    ev.logged += [transition for transition in transitions if transition.job_id == job_id]
    others = [transition for transition in transitions if transition.job_id != job_id]
    if others:
        logged[name] = others


def _apply_attempt_report(ev: Eval, job: Job, report: JobReport) -> None:
    if job.token is not None and report.token not in {None, job.token}:
        return  # of another submission's job with the same id
    before = next((r for r in reports_of(job) if r.restart == report.restart), None)
    if before is not None and (before == report or _weight(report) < _weight(before)):
        return
    if report.ended and not (before is not None and before.ended):
        # The time that accounting lags behind is counted from here.
        job.unaccounted_at, job.unknown_s = None, 0.0
    put_report(job, report)
    ev.final = False


def _weight(report: JobReport) -> tuple[bool, float]:
    """The order of two versions of a report: an end is never undone; otherwise the later read counts."""
    return report.ended, report.ended_at or 0.0


def _apply_presence(job: Job, *, asked_at: float) -> None:
    if job.missing_at is not None and not is_stale(asked_at, job.missing_at):
        job.missing_at, job.unaccounted_at, job.unknown_s = None, None, 0.0


def was_missing_too_early(ev: Eval, job: Job) -> bool:
    """Whether it is final by an absence from squeue before its end, which a later answer could take back."""
    ended_at = max((attempt.ended_at or 0.0 for attempt in job.attempts), default=0.0)
    return ev.state in MAY_RUN_AGAIN and job.missing_at is not None and job.missing_at < ended_at


def _apply_absence(job: Job, *, asked_at: float) -> None:
    shown_at = (attempt.queue_at for attempt in job.attempts)
    if not is_stale(asked_at, max([job.registered_at, job.missing_at or 0.0, *shown_at])):
        job.missing_at = asked_at


def _recall_suspension(ev: Eval, job: Job, attempt: Attempt, *, asked_at: float) -> None:
    """Recall from the log of a lost state that the job was suspended, so that its resumption is recognised."""
    is_first_look = all(earlier.queue_state is None for earlier in job.attempts)
    last = ev.logged[-1] if ev.logged else None
    is_suspended = last is not None and (last.job_id, last.state) == (job.job_id, State.SUSPENDED)
    if is_suspended and is_first_look and is_history_known(job, attempt):
        attempt.suspensions = [(asked_at, State.SUSPENDED)]


def _apply_row(attempt: Attempt, row: SqueueRow, *, asked_at: float) -> None:
    state = row.state or State.PENDING
    if state is State.REQUEUED and not row.node_list:
        state = State.PENDING  # held back after a requeue: this attempt has not started
    if row.state is None and attempt.queue_state is not None:
        return  # an unknown state: the job is active, and nothing else is known
    if state in LIVE:
        attempt.ran = True
        attempt.running_seen_at = min(attempt.running_seen_at or asked_at, asked_at)
    if state in TERMINAL and (row.elapsed_s or row.node_list):
        attempt.ran = True
    if not _is_news(attempt, state, asked_at=asked_at):
        return
    reason = row.reason if state is State.PENDING else ""
    if (state, base(reason)) != (attempt.queue_state, base(attempt.queue_reason)):
        # Only a change moves the time: a poll without news leaves the state file as it is.
        attempt.queue_at, attempt.queue_state = asked_at, state
    attempt.queue_reason = reason
    _apply_suspension(attempt, state, at=asked_at)
    if attempt.account_state not in ENDS:
        _apply_details(attempt, row, state)


def _is_news(attempt: Attempt, state: State, *, asked_at: float) -> bool:
    """Whether squeue's state is not behind an earlier one: within one Submit nothing goes backwards."""
    if attempt.queue_state is None:
        return True
    ahead = _stage(state) - _stage(attempt.queue_state)
    return ahead > 0 or (ahead == 0 and not is_stale(asked_at, attempt.queue_at))


def _stage(state: State) -> int:
    if state in LIVE:
        return 1
    if state is State.REQUEUED:
        return 2
    return 3 if state in TERMINAL else 0


def _apply_details(attempt: Attempt, row: SqueueRow, state: State) -> None:
    attempt.time_limit_s = row.time_limit_s if row.time_limit_s is not None else attempt.time_limit_s
    attempt.node_list = row.node_list or attempt.node_list
    if attempt.ran and row.started_at is not None:
        attempt.started_at = row.started_at
    if state in LIVE:
        attempt.ends_at = row.ends_at
    if state in TERMINAL:
        attempt.ended_at, attempt.elapsed_s = row.ends_at, row.elapsed_s if attempt.ran else 0.0


def _apply_suspension(attempt: Attempt, state: State, *, at: float) -> None:
    last = attempt.suspensions[-1][1] if attempt.suspensions else State.RUNNING
    if state in LIVE and state is not last:
        attempt.suspensions.append((at, state))


def _apply_accounted(attempt: Attempt, row: SacctJob, *, asked_at: float) -> None:
    # A last state without an end comes with 0:0 and a clock that still runs: nothing of it is believed.
    is_half = not row.whole and row.state in TERMINAL and row.ended_at is None
    if row.state is None or is_half or not _is_accounted_news(attempt, row.state, asked_at=asked_at):
        return
    attempt.account_state, attempt.account_at = row.state, asked_at
    attempt.ran = attempt.ran or row.ran
    attempt.started_at = row.started_at if row.ran else attempt.started_at
    attempt.node_list = row.node_list or attempt.node_list
    attempt.cpus, attempt.gpus, attempt.energy_j = row.cpus, row.gpus, row.energy_j
    attempt.time_limit_s = row.time_limit_s if row.time_limit_s is not None else attempt.time_limit_s
    if row.state in ENDS:
        attempt.ended_at, attempt.elapsed_s = row.ended_at, row.elapsed_s
        attempt.exit_code, attempt.signal = row.exit_code, row.signal
        attempt.cancelled_by = cancelled_by(row.state_word)
        attempt.accounted = with_limit(from_sacct(row), attempt.time_limit_s) if row.whole else None


def _is_accounted_news(attempt: Attempt, state: State, *, asked_at: float) -> bool:
    if attempt.account_state is None:
        return True
    ahead = (state in ENDS) - (attempt.account_state in ENDS)
    return ahead > 0 or (ahead == 0 and not is_stale(asked_at, attempt.account_at))


def _apply_answered(job: Job, answer: AccountAnswer) -> None:
    """Record that sacct answered about this job, so that what it did not report it did not know."""
    if is_stale(answer.asked_at, job.answered_at):
        return
    job.answered_at, job.no_accounting = answer.asked_at, answer.disabled
    _mark_superseded(job, at=answer.asked_at)
    if job.latest is not None and job.latest.account_state in TERMINAL:
        job.unaccounted_at, job.unknown_s = None, 0.0
    elif job.missing_at is not None and not is_stale(answer.asked_at, job.missing_at):
        silence_s = answer.asked_at - (job.unaccounted_at or answer.asked_at)
        job.unknown_s += min(max(silence_s, 0.0), MAX_SILENCE_S)
        job.unaccounted_at = answer.asked_at


def _mark_superseded(job: Job, *, at: float) -> None:
    for attempt in job.attempts[:-1]:
        if attempt.superseded_at is None:
            attempt.superseded_at = at


def name_for(state: ExperimentState, report: SelfReport, queue: QueueAnswer | None) -> str | None:
    """The eval name for a job whose report has none; None while squeue has not been asked.

    After a lost state it is the one that the log has. A job's name, which many jobs share, gets the job's id where
    another eval is called so.
    """
    logged = _logged_name(state, report.job_id)
    if logged is not None or queue is None:
        return logged
    row = next((row for row in queue.rows if row.job_id == report.job_id), None)
    stem = _below(row, state.experiment) if row is not None else None
    task = task_of(report.job_id)
    if stem is not None:
        return stem if task is None else task_name(stem, task)
    job_name = (row.name if row is not None else report.job_name) or report.job_id
    name = job_name if task is None else task_name(job_name, task)
    return name if name not in state.evals else f"{name}-{report.job_id}"


def _logged_name(state: ExperimentState, job_id: str) -> str | None:
    logged = state.recovered.logged if state.recovered is not None else {}
    return next(
        (name for name, entries in logged.items() if any(entry.job_id == printable(job_id) for entry in entries)), None
    )


def script_in(row: SqueueRow) -> str | None:
    """The script in a Command, before its arguments; it ends at the job's name, which it gave, or at a blank."""
    folder, name, rest = row.command.partition(f"/{row.name}")
    is_whole = bool(name) and rest[:1] in {"", " "}
    script = folder + name if is_whole else row.command.partition(" ")[0]
    return script if script.startswith("/") else None


def _below(row: SqueueRow, root: str) -> str | None:
    script = script_in(row)
    if script is None or not script.startswith(root + os.sep):
        return None
    return name_from_path(script[len(root) + 1 :])


class JobIndex:
    """The jobs of all evals by id; where several share an id, latest first."""

    def __init__(self, evals: Iterable[Eval]) -> None:
        self._jobs: dict[JobId, list[Tracked]] = {}
        for ev in evals:
            for job in ev.jobs:
                self.add(ev, job)

    def add(self, ev: Eval, job: Job) -> None:
        """Add a job."""
        same_id = self._jobs.setdefault(job.job_id, [])
        same_id.append((ev, job))
        self.sort(job.job_id)

    def sort(self, job_id: JobId) -> None:
        """Sort the jobs of one id again, after the registration time of one has changed."""
        self.of(job_id).sort(key=lambda tracked: -tracked[1].registered_at)

    def of(self, job_id: JobId) -> list[Tracked]:
        """The jobs that have or had this id."""
        return self._jobs.get(job_id, [])

    def in_queue(self, row: SqueueRow) -> Tracked | None:
        """The job of this row of squeue."""
        for ev, job in self.of(row.job_id):
            if job.token is not None and row.command.startswith("/"):
                # The script's path decides without any clock: the launcher's path has the token in it.
                if f"/{job.token}/" in row.command:
                    return ev, job
            elif row.submitted_at is None or not _is_another(job, row.submitted_at):
                return ev, job
        return None

    def in_accounts(self, row: SacctJob) -> Tracked | None:
        """The job of this row of sacct; None also for a row that does not identify its attempt."""
        submitted_at = row.submitted_at
        if submitted_at is None:
            return None
        for ev, job in self.of(row.job_id):
            is_known = any(attempt.submitted_at == submitted_at for attempt in job.attempts)
            if is_known or not _is_anothers_row(job, row, submitted_at):
                return ev, job
        return None


def attempt_for(job: Job, submitted_at: float) -> Attempt:
    """The job's attempt with this Submit; a new one if it is not known yet."""
    for attempt in job.attempts:
        if attempt.submitted_at == submitted_at:
            return attempt
    attempt = Attempt(submitted_at)
    job.attempts.append(attempt)
    align(job)
    return attempt


def _is_anothers_submit(job: Job, submitted_at: float) -> bool:
    """Whether accounting's row belongs to an earlier or later job with the same id; it has no script to decide by.

    A later Submit is the same job's if Slurm would run the attempt before it again (or lost its row, with its node),
    or if a later report of the job has no attempt yet.
    """
    earlier = [a for a in job.attempts if (a.submitted_at or submitted_at) < submitted_at]
    if not earlier:
        return _is_before(job, submitted_at)
    if earlier[-1].account_state is None or earlier[-1].account_state in RUNS_AGAIN:
        return False
    since = (earlier[-1].submitted_at or 0.0) - CLOCK_SLACK_S
    unmatched = unmatched_reports(job)
    return not any(r.restart >= len(earlier) and (r.started_at or since) >= since for r in unmatched)


def _is_another(job: Job, submitted_at: float) -> bool:
    """Whether a queued job with this Submit is an earlier job with the same id."""
    if job.token is None:
        return job.submitted_at is not None and submitted_at < job.submitted_at
    return _is_before(job, submitted_at)


def _is_anothers_row(job: Job, row: SacctJob, submitted_at: float) -> bool:
    """Whether accounting's row is of an earlier job with the same id; an adopted job may have earlier attempts."""
    if job.token is not None:
        return _is_anothers_submit(job, submitted_at)
    if row.ended_at is not None and row.ended_at < job.registered_at - CLOCK_SLACK_S:
        return True
    if job.submitted_at is not None and submitted_at < job.submitted_at:
        return row.state in TERMINAL - MAY_RUN_AGAIN
    has_earlier = any((a.submitted_at or submitted_at) < submitted_at for a in job.attempts)
    return has_earlier and _is_anothers_submit(job, submitted_at)


def is_tracked(same_id: Iterable[Tracked], submitted_at: float) -> bool:
    """Whether one of these jobs, which share an id, is the job with this Submit."""
    for ev, job in same_id:
        submits = [attempt.submitted_at for attempt in job.attempts]
        if not ev.final or not submits or None in submits or max(s for s in submits if s is not None) >= submitted_at:
            return True
    return False


def _is_before(job: Job, submitted_at: float) -> bool:
    """Whether this Submit lies before evalmon's sbatch: before its time, and before the job's first known Submit."""
    submits = [a.submitted_at for a in job.attempts if a.submitted_at is not None]
    return submitted_at < min([job.registered_at - CLOCK_SLACK_S, *submits])
