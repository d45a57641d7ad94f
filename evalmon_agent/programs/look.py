"""`evalmon status` and `evalmon report`: what is known, from the files; Slurm only where nobody else asks it."""

from __future__ import annotations

import time

from evalmon_agent.errors import LockUnavailableError, UsageError
from evalmon_agent.programs.complete import measure
from evalmon_agent.programs.finalize import finalize, is_complete, is_ready, write_summary
from evalmon_agent.programs.measure import Measurer
from evalmon_agent.programs.observe import Observer
from evalmon_agent.programs.submit_waiting import Submitter, on_command, tell
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.store import heartbeat as heartbeat_file
from evalmon_agent.store import state as state_file
from evalmon_agent.store.experiment import Experiment
from evalmon_agent.summary.build import build
from evalmon_agent.summary.records import Summary
from evalmon_agent.tracking.helpers import all_final
from evalmon_agent.tracking.records import ExperimentState

_SILENT_POLLS = 2
_LOCK_WAIT_S = 2.0


def status(experiment: Experiment, settings: Settings, slurm: Slurm) -> Summary:
    """What is known now, in the shape of the summary; nothing is written but what a poll finds.

    A reader needs no lock: where nothing can be written (another's experiment, a full disk, a lock that is held),
    this is what the files say.
    """
    experiment.require_monitored()
    observer = Observer(experiment, slurm, settings, role="command", lock_wait_s=_LOCK_WAIT_S)
    state = _look_or_read(observer) if experiment.is_ours else _read(experiment)
    return build(state, now=observer.now(), lost_after_s=settings.lost_after)


def report(experiment: Experiment, settings: Settings, slurm: Slurm) -> Summary:
    """Write summary.json and summary.md anew; finish the job of a completion job that is not there."""
    experiment.require_monitored()
    experiment.check()
    observer = Observer(experiment, slurm, settings, role="command")
    state = look(observer)
    if all_final(state) and not is_complete(state) and not _completion_lives(slurm, state):
        state = _finish(observer, slurm, state)
    return write_summary(experiment, state, observer=observer)


def exit_status(summary: Summary) -> int:
    """3 while evals are active, else 1 if one did not succeed, else 0."""
    if summary.verdicts["active"]:
        return 3
    return int(any(summary.verdicts[verdict] for verdict in ("failed", "suspect")))


def look(observer: Observer) -> ExperimentState:
    """The state; one poll first if the observer in charge has been silent for two and something is active."""
    experiment, settings = observer.experiment, observer.settings
    last = heartbeat_file.load(experiment.observer)
    interval_s = settings.poll_interval
    age_s = time.time() - last.polled_at if last is not None else None
    state = observer.record()
    if all_final(state) and is_complete(state):
        return state
    silent = age_s is None or age_s < 0 or age_s > _SILENT_POLLS * interval_s
    if silent and observer.slurm.has("squeue"):
        return _submit_waiting(observer, observer.observe_once(at_least_s=interval_s).state)
    return state


def _submit_waiting(observer: Observer, state: ExperimentState) -> ExperimentState:
    """Nobody else polls, so nobody else submits what waits: done here if this is the environment that it is to have."""
    if not state.waiting or not observer.slurm.has("sbatch"):
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
    state = state_file.load(experiment)
    if state is None:
        raise UsageError(f"{experiment.directory}: no observer has written anything there yet; ask its owner")
    return state


def _completion_lives(slurm: Slurm, state: ExperimentState) -> bool:
    """Whether a completion job is there that will do the rest."""
    if state.completion is None or state.completion.job_id is None:
        return False
    return slurm.ends_at(state.completion.job_id) is not None


def _finish(observer: Observer, slurm: Slurm, state: ExperimentState) -> ExperimentState:
    """Measure what accounting has and close; seff's second try is left out: nobody should wait for it here."""
    measurer = Measurer(experiment=observer.experiment, slurm=slurm, retry_delay_s=0.0)
    state = measure(observer, measurer, state)
    state = measure(observer, measurer, state, final=True)
    return finalize(observer) if is_ready(state) else state
