"""`evalmon status` and `evalmon report`: what is known, from the files; Slurm only where nobody else asks it."""

from __future__ import annotations

import time

from evalmon_agent.collect.progress import progress
from evalmon_agent.commands.complete import measure
from evalmon_agent.errors import LockUnavailableError, UsageError
from evalmon_agent.experiment import heartbeat as heartbeat_file
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs.monitor_jobs import MonitorJobs, active_jobs
from evalmon_agent.monitor.finalize import finalize, is_complete, is_ready, write_summary
from evalmon_agent.monitor.measure import Measurer
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.submitting.submit_waiting import Submitter, on_command, tell
from evalmon_agent.summary.build import build
from evalmon_agent.summary.records import Summary
from evalmon_agent.tracking.helpers import REFUSED, all_final, has_more_to_come, lacks_completion, somebody_completes
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.timing import back_off_s

_SILENT_POLLS = 2
_LOCK_WAIT_S = 2.0
_SEFF_AT_MOST_S = 60.0
"""How long somebody who waits for `report` waits for seff; accounting's figures do for the rest."""


def status(experiment: Experiment, settings: Settings, slurm: Slurm) -> Summary:
    """What is known now, in the shape of the summary; nothing is written but what a poll finds.

    A reader needs no lock: where nothing can be written (another's experiment, a full disk, a lock that is held),
    this is what the files say.
    """
    experiment.require_monitored()
    observer = Observer(experiment, slurm, settings, role="command", lock_wait_s=_LOCK_WAIT_S)
    owner = None if experiment.is_ours else experiment.owner
    state = _look_or_read(observer) if owner is None else _read(experiment)
    so_far = progress(experiment, state, owner=owner)
    return build(state, now=observer.now(), lost_after_s=settings.lost_after, progress=so_far)


def report(experiment: Experiment, settings: Settings, slurm: Slurm) -> Summary:
    """Write summary.json and summary.md anew; finish the job of a completion job that is not there."""
    experiment.require_monitored()
    experiment.check()
    observer = Observer(experiment, slurm, settings, role="command")
    return write_summary(experiment, look(observer), observer=observer)


def exit_status(summary: Summary) -> int:
    """3 while evals are active, else 1 if one did not succeed, else 0."""
    if summary.verdicts["active"]:
        return 3
    return int(any(summary.verdicts[verdict] for verdict in ("failed", "suspect")))


def look(observer: Observer) -> ExperimentState:
    """The state; one poll first if the observer in charge has been silent for two and something is active.

    Where no job of ours lives that would do it, the end is made here, and late-comers get a completion job. After a
    lost state the end is in the log already, but the figures are to be had again.
    """
    state = _polled(observer)
    is_done = is_complete(state) and is_ready(state)
    if all_final(state) and not is_done and not somebody_completes(state):
        return _finish(observer, observer.slurm, state)
    return state


def _polled(observer: Observer) -> ExperimentState:
    experiment = observer.experiment
    last = heartbeat_file.load(experiment.observer)
    age_s = time.time() - last.polled_at if last is not None else None
    state = observer.record()
    if all_final(state) and is_complete(state):
        return state
    interval_s = _interval_s(observer.settings, state)
    silent = age_s is None or age_s < 0 or age_s > _SILENT_POLLS * interval_s
    if not silent or not observer.slurm.has("squeue"):
        return state
    observed = observer.observe_once(at_least_s=interval_s)
    if observed.queue is not None and lacks_completion(observed.state) and observer.slurm.has("sbatch"):
        return _submit_waiting(observer, _with_completion(observer, observed.state))
    return _submit_waiting(observer, observed.state)


def _interval_s(settings: Settings, state: ExperimentState) -> float:
    """A poll interval; longer while Slurm does not answer: who looks in a loop asks no oftener than a sidecar."""
    failures = state.outage.failures if state.outage is not None else 0
    return back_off_s(settings.poll_interval, failures=failures, alert_after=settings.alert_after)


def _with_completion(observer: Observer, state: ExperimentState) -> ExperimentState:
    """A completion job for evals that were added or requeued after the completion."""
    waiting_for = active_jobs(observer.experiment, state)
    if not waiting_for:
        return state
    helpers = MonitorJobs(observer.experiment, observer.slurm, observer.settings, observer.slurm.environ)
    outcome = helpers.submit("completion", afterany=waiting_for)

    def change(state: ExperimentState, now: float) -> list[list[str]]:
        del now
        if state.completion is not None:
            state.completion.status = REFUSED  # once: the next command that finds all over completes instead
        return []

    return observer.record() if outcome.job_id is not None else observer.transact(change)


def _submit_waiting(observer: Observer, state: ExperimentState) -> ExperimentState:
    """Nobody else polls, so nobody else submits what waits: done here if this is the environment that it is to have."""
    if not has_more_to_come(state) or not observer.slurm.has("sbatch"):
        return state
    place = on_command(observer.slurm.environ, submits=False)
    return tell(observer, Submitter(observer.experiment, observer.settings, observer.slurm, place).run())


def _look_or_read(observer: Observer) -> ExperimentState:
    observer.experiment.check_owner()
    try:
        return look(observer)
    except (LockUnavailableError, OSError):
        state = state_file.load(observer.experiment)
        if state is None:
            raise
        return state


def _read(experiment: Experiment) -> ExperimentState:
    """Another user's experiment, which its owner lets us read."""
    experiment.check_place()
    state = state_file.load_foreign(experiment)
    if state is None:
        raise UsageError(f"{experiment.directory}: no observer has written anything there yet; ask its owner")
    return state


def _finish(observer: Observer, slurm: Slurm, state: ExperimentState) -> ExperimentState:
    """Measure what accounting has and close; seff's second try is left out: nobody should wait for it here."""
    measurer = Measurer(experiment=observer.experiment, slurm=slurm, retry_delay_s=0.0)
    state = measure(observer, measurer, state, deadline=time.monotonic() + _SEFF_AT_MOST_S)
    state = measure(observer, measurer, state, final=True)
    return finalize(observer) if is_ready(state) else state
