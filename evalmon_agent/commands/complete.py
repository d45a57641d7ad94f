"""`evalmon complete`: measures and summarises when all evals are over; Slurm starts it then.

It needs no sidecar. Evals that are active after all (requeued, added later) get a successor. What waits for room is
submitted, as far as there is some.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import click

from evalmon_agent.cli.options import experiment_argument, monitor_job_options
from evalmon_agent.errors import EvalmonError, LockUnavailableError, ReplacedError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.pinned import shown
from evalmon_agent.jobs.monitor_jobs import WAITING_BEGIN_S, active_jobs, submit_monitor_job
from evalmon_agent.jobs.register import confirm
from evalmon_agent.monitor.finish import (
    LOOK_AGAIN_AT_MOST_S,
    Measurer,
    finalize,
    is_anything_owed,
    is_ready,
    look_again,
    measure,
    tell_changed_verdicts,
    write_summary,
)
from evalmon_agent.monitor.poll import Observed, Observer
from evalmon_agent.report_page.page import write_page
from evalmon_agent.session import Session, StopSignals
from evalmon_agent.slurm.environment import own_job_id
from evalmon_agent.submitting.submit_waiting import Progress, Submitter, log_progress
from evalmon_agent.summary.attention import verdict_line
from evalmon_agent.summary.records import Summary
from evalmon_agent.tracking import blocks
from evalmon_agent.tracking.blocks import BlockKind
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.words.job_id import JobId

PATIENCE_S = 600.0
"""How long accounting may lag behind before the rest is left to a successor."""
_JOB_NAME_CHARS = 200
_PAUSE_S = 5.0
_FULL_PAUSE_S = 20.0


@click.command("complete")
@experiment_argument()
@monitor_job_options
def command(experiment: Experiment, token: str | None, experiment_id: str | None) -> None:
    """Measure and summarise (the body of the completion job)."""
    session, unusable = Session.of_monitor_job(experiment, token=token, experiment_id=experiment_id)
    confirm(experiment, token, own_job_id(session.environ))
    stop = StopSignals()
    stop.install()
    session.slurm.stopped = stop.is_set
    complete(session, sleep=stop.pause, unusable=unusable)


def complete(session: Session, *, sleep: Callable[[float], None] = time.sleep, unusable: str = "") -> ExperimentState:
    """Bring everything to its end; returns the state as it then is.

    A full or absent file system, or a lock that is held, is waited for as long as accounting is. `unusable`: why its
    settings are not those in the file. ReplacedError: another directory is where the experiment's was; the log of
    the right one has got a last block.
    """
    observer = Observer(session, role="completion")
    measurer = Measurer(session=session, retry_delay_s=session.settings.seff_retry_delay)
    submitter = Submitter(session, "monitor job", sleep)
    deadline = time.monotonic() + _patience_s(session.environ)
    unlogged = []
    if unusable:
        error = {"Error": unusable}
        unlogged.append(blocks.note(time.time(), BlockKind.MONITOR_CONFIG, "settings not applied", error))
    while True:
        try:
            if unlogged:
                observer.record(extra=unlogged)
                unlogged = []
            state = _bring_to_the_end(observer, measurer, submitter, sleep=sleep, deadline=deadline)
            break
        except ReplacedError as error:
            fields = {"Reason": str(error), "Job ID": own_job_id(session.environ) or "none"}
            last = blocks.note(time.time(), BlockKind.MONITOR_STOPPED, "completion job", fields)
            with suppress(EvalmonError, OSError):
                observer.last_word([*unlogged, last])
            raise
        except (OSError, LockUnavailableError) as error:
            if time.monotonic() >= deadline:
                raise
            print(f"cannot go on for now: {shown(str(error))}", flush=True)  # noqa: T201 - its own job's output file
            sleep(_PAUSE_S)
    if observer.settings.notify or observer.settings.notify_command:
        observer.notifier.finish(observer.session, sleep, at_most_s=_patience_s(session.environ))
        with suppress(OSError, LockUnavailableError):
            state = observer.record()  # the log says whether that failed
    return state


def _bring_to_the_end(
    observer: Observer,
    measurer: Measurer,
    submitter: Submitter,
    *,
    sleep: Callable[[float], None],
    deadline: float,
) -> ExperimentState:
    """All of it, from the start; what was done before is found done."""
    # The last poll may be seconds old and have missed the end: this one is always made.
    observed = observer.observe_once(at_least_s=0)
    state = observed.state
    while not is_ready(state):
        is_active = _has_active(observed)
        at_most = _before_the_successor(submitter, state, is_active=is_active)
        more = state.has_more_to_come
        progress = submitter.run(at_most=at_most) if more and at_most else Progress()
        state = log_progress(observer, progress) if more else state
        if progress.submitted or is_active:
            state = _hand_on(observer, state, sleep=sleep, deadline=deadline)
            state = log_progress(observer, submitter.run()) if state.waiting and at_most < math.inf else state
            return measure(observer, measurer, state, deadline=deadline)
        state = measure(observer, measurer, state, deadline=deadline)
        patient = time.monotonic() < deadline
        state = state if patient else measure(observer, measurer, state, final=True)
        if is_ready(state):
            break
        if progress.why == "stuck" and not is_anything_owed(state):
            write_summary(observer, state)
            return state
        if not patient:
            return _hand_on(observer, state, sleep=sleep, deadline=deadline, later_s=PATIENCE_S)
        sleep(_PAUSE_S)
        observed = observer.observe_once()
        state = observed.state
    return _end(observer, measurer, state)


def _before_the_successor(submitter: Submitter, state: ExperimentState, *, is_active: bool) -> float:
    """How many evals go in before the successor: where the site's limit is met, it would find no place after all."""
    is_ours = submitter.session.settings.max_submit is not None and state.waiting_for is None
    return math.inf if is_ours else 1 - is_active


def _patience_s(environ: Mapping[str, str]) -> float:
    """Half of what is left of this job's life, at most: the other half is for the end itself."""
    end_time = environ.get("SLURM_JOB_END_TIME", "")
    left_s = float(end_time) - time.time() if end_time.isdecimal() else math.inf
    return min(PATIENCE_S, max(left_s, 0.0) / 2)


def _end(observer: Observer, measurer: Measurer, state: ExperimentState) -> ExperimentState:
    state = look_again(observer, measurer, state, deadline=time.monotonic() + LOOK_AGAIN_AT_MOST_S)
    state = tell_changed_verdicts(observer, state) if state.is_complete else finalize(observer)
    summary = write_summary(observer, state)
    job_id = own_job_id(observer.session.environ)
    if observer.settings.mail_user and job_id is not None:
        # Slurm's mail carries the job's name, and nothing else that evalmon can choose.
        observer.slurm.rename(job_id, f"evalmon: {verdict_line(summary)}"[:_JOB_NAME_CHARS])
    _write_page(observer, summary)
    return state


def _write_page(observer: Observer, summary: Summary) -> None:
    """Write report.html; all else is done by now, and waits for it no longer."""
    try:
        note = write_page(observer.experiment, summary, environ=observer.session.environ, mode=observer.mode)
    except OSError as error:
        note = f"not written: {shown(str(error))}"
    if note:
        print(f"report.html: {note}", flush=True)  # noqa: T201 - its own job's output file


def _has_active(observed: Observed) -> bool:
    """Whether squeue showed an eval that will go on: only that makes waiting here pointless."""
    state = observed.state
    if observed.queue is None or state.all_final:
        return False
    eval_jobs = {job.job_id for ev in state.evals.values() for job in ev.jobs}
    return any(row.goes_on and row.job_id in eval_jobs for row in observed.queue.rows)


def _comes_later(state: ExperimentState, job_id: JobId | None) -> bool:
    """Whether another completion job than this one was submitted last, and squeue showed it as not over."""
    latest = state.completion
    return latest is not None and latest.job_id not in {None, job_id} and latest.alive is True


def _hand_on(
    observer: Observer,
    state: ExperimentState,
    *,
    sleep: Callable[[float], None],
    deadline: float,
    later_s: float = 0.0,
) -> ExperimentState:
    """Submit a successor that waits for what is still active; where only accounting is awaited, `later_s` longer.

    Slurm counts a job that it has forgotten as over, and what is not submitted yet cannot be waited for: without that
    pause the successor would start at once. Where a later completion job is there already, that one is the successor.
    """
    if _comes_later(state, own_job_id(observer.session.environ)):
        write_summary(observer, state)
        return state
    waiting_for = active_jobs(observer.experiment, state)
    begins_in_s = later_s or (0.0 if waiting_for else WAITING_BEGIN_S)
    while True:
        outcome = submit_monitor_job(observer.session, "completion", afterany=waiting_for, later_s=begins_in_s)
        if not outcome.is_full or time.monotonic() >= deadline:
            break
        sleep(_FULL_PAUSE_S)
    write_summary(observer, state)
    return observer.record()
