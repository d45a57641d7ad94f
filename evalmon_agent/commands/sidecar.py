"""`evalmon sidecar`: polls until all evals are over, and hands over to a successor before its time limit."""

from __future__ import annotations

import os
import random
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import click

from evalmon_agent.cli.options import experiment_argument, monitor_job_options
from evalmon_agent.collect.collect import progress
from evalmon_agent.errors import EvalmonError, LockUnavailableError, ReplacedError, StoppedError, UnreadableError
from evalmon_agent.experiment import settings_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.pinned import shown
from evalmon_agent.jobs.monitor_jobs import active_jobs, submit_monitor_job
from evalmon_agent.jobs.register import confirm
from evalmon_agent.monitor.finish import (
    Measurer,
    PolledMetrics,
    finalize,
    is_anything_owed,
    is_ready,
    measure,
    write_summary,
)
from evalmon_agent.monitor.hand_over import HandOver
from evalmon_agent.monitor.log_blocks import resource_blocks
from evalmon_agent.monitor.poll import Observed, Observer, back_off_s
from evalmon_agent.session import Session, StopSignals
from evalmon_agent.slurm.environment import own_job_id
from evalmon_agent.submitting.submit_waiting import Submitter, log_progress
from evalmon_agent.tracking import blocks
from evalmon_agent.tracking.blocks import BlockKind
from evalmon_agent.tracking.records import ExperimentState, MonitorJob
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import counted

_ALL_OVER = "all evaluations are over"
_LOOK_EVERY_S = 5.0
"""How often it looks whether another process has completed the experiment: its job must not last for another poll."""


@click.command("sidecar")
@experiment_argument()
@monitor_job_options
def command(experiment: Experiment, token: str | None, experiment_id: str | None) -> None:
    """Watch the evals live (the body of the sidecar job)."""
    session, unusable = Session.of_monitor_job(experiment, token=token, experiment_id=experiment_id)
    confirm(experiment, token, own_job_id(session.environ))
    Sidecar(session, unusable=unusable).run()


class Sidecar:
    """One sidecar, from start to end: `run` returns when its work is done or handed on.

    A signal ends it within seconds, whatever it waits for. A failed poll is counted and made again; blocks that cannot
    be logged meanwhile are kept until they can.
    """

    def __init__(self, session: Session, *, unusable: str = "") -> None:
        """`unusable`: why the settings in the file could not be used, so that older ones are in effect."""
        self._session = session
        self._job_id = own_job_id(session.environ)
        self._observer = Observer(session, role="sidecar")
        self._measurer = Measurer(session=session, retry_delay_s=session.settings.seff_retry_delay)
        self._metrics = PolledMetrics()
        self._stop = StopSignals()
        self._submitter = Submitter(session, "monitor job", self._pause)
        self._is_stuck = False
        self._unlogged: list[list[str]] = []
        self._polls = 0
        self._failures = 0
        self._settings_seen = self._settings_version()
        self._unusable = unusable
        self._hand_over = HandOver(session, ends_at=None)

    def run(self) -> None:
        """Poll, measure and log until there is nothing left to watch.

        Raises:
            UnreadableError: a newer evalmon has written to the experiment.
            ReplacedError: another directory is where the experiment's was; its log has got a last block.
        """
        try:
            self._live()
        except ReplacedError as error:
            last = blocks.note(time.time(), BlockKind.MONITOR_STOPPED, "sidecar", self._stopped(str(error)))
            with suppress(EvalmonError, OSError):
                self._observer.last_word([*self._unlogged, last])
            raise

    def _live(self) -> None:
        self._stop.install()
        self._session.slurm.stopped = self._stop.is_set
        self._note(BlockKind.MONITOR_STARTED, "sidecar", self._started())
        if self._unusable:
            self._note(BlockKind.MONITOR_CONFIG, "settings not applied", {"Error": self._unusable})
        ends_at = self._asked_end()
        self._hand_over = HandOver(self._session, ends_at=ends_at)
        reason = None
        while reason is None:
            reason = self._turn()
        if self._stop.name == "SIGTERM":
            with suppress(EvalmonError, OSError):
                reason = self._hand_over.hand_over_if_preempted() or reason
        self._observer.notifier.finish(self._session, self._stop.pause, at_most_s=self._hand_over.left_s())
        self._note(BlockKind.MONITOR_STOPPED, "sidecar", self._stopped(reason))
        self._log_notes()

    def _turn(self) -> str | None:
        """One poll and the work until the next; the reason to stop, if there is one."""
        next_at = time.monotonic() + min(self._interval_s(), max(self._hand_over.left_s(), 0.0))
        try:
            reason = self._watch(until_monotonic_s=next_at)
            if reason is not None:
                return reason
        except (UnreadableError, ReplacedError):
            raise
        except StoppedError:
            pass
        except Exception as error:  # noqa: BLE001 - the one catch-all of this loop: it counts, and polls again
            self._failed(error)
        is_over = self._wait(max(next_at - time.monotonic(), 0.1))
        if self._stop.is_set():
            return f"ended by {self._stop.name}"
        return _ALL_OVER if is_over else None

    def _wait(self, seconds: float) -> bool:
        """Wait that long, or until a signal, or until another process has logged ALL_COMPLETE (only then True)."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and (left_s := until - time.monotonic()) > 0:
            self._stop.wait(min(left_s, _LOOK_EVERY_S))
            with suppress(OSError, EvalmonError):
                state = self._observer.saved_by_another()
                if state is not None and state.is_complete:
                    return True
        return False

    def _watch(self, *, until_monotonic_s: float) -> str | None:
        """Poll once and do what follows from it; returns the reason to stop, if there is one."""
        self._session.experiment.check_place()
        self._reload_settings()
        self._log_notes()
        observed = self._poll()
        with suppress(OSError, UnreadableError):  # as the summary, it is written again
            self._metrics.write(self._observer, observed.state)
        reason = self._hand_over.reason_to_leave(observed)
        if reason is not None:
            return reason
        state = self._submit_waiting(observed.state, until_monotonic_s=until_monotonic_s)
        state = self._work(state, until_monotonic_s=until_monotonic_s)
        if is_ready(state):
            state = finalize(self._observer) if not state.is_complete else state
            if state.is_complete:
                write_summary(self._observer, state)
                return _ALL_OVER
        if self._is_stuck and not is_anything_owed(state):
            write_summary(self._observer, state)
            root = self._session.experiment.root
            return f"{counted(len(state.waiting), 'evaluation')} not submitted yet; run: evalmon submit {root}"
        return None

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        # What the poll lacked (memory, file descriptors, disk space) may still be lacking.
        with suppress(EvalmonError, OSError, MemoryError):
            self._observer.count_failure(printable(shown(f"{type(error).__name__}: {error}")))
        with suppress(OSError, MemoryError):
            if not isinstance(error, (EvalmonError, OSError, MemoryError)):
                traceback.print_exc()
            print(f"poll failed: {printable(shown(str(error))) or type(error).__name__}", flush=True)

    def _poll(self) -> Observed:
        self._polls += 1
        observed = self._observer.observe_once()
        # This counts the failed polls of other processes too: Slurm's silence is the same for all of them.
        self._failures = observed.state.outage.failures if observed.state.outage is not None else 0
        if observed.asked and self._polls % self._session.settings.gpu_status_every == 0:
            so_far = progress(self._session.experiment, observed.state)
            usage = resource_blocks(observed.state, self._session.settings, now=time.time(), progress=so_far)
            if usage:
                self._observer.record(extra=usage)
        return observed

    def _submit_waiting(self, state: ExperimentState, *, until_monotonic_s: float) -> ExperimentState:
        """Submit the evals that there is room for; before them the completion job, if it found no room before."""
        self._is_stuck = False
        lacks_completion = state.completion is not None and state.completion.status == MonitorJob.WAITS
        if lacks_completion and not self._submitter.is_full:
            waiting_for = active_jobs(self._session.experiment, state)
            if waiting_for:
                submit_monitor_job(self._session, "completion", afterany=waiting_for)
        if not state.has_more_to_come:
            return state
        progress = self._submitter.run(until_monotonic_s=until_monotonic_s if self._session.settings.stagger else 0.0)
        self._is_stuck = progress.why == "stuck"
        return log_progress(self._observer, progress)

    def _pause(self, seconds: float) -> bool:
        """Wait that long; returns True if a signal asked this process to stop."""
        self._stop.wait(seconds)
        return self._stop.is_set()

    def _work(self, state: ExperimentState, *, until_monotonic_s: float) -> ExperimentState:
        """Capture figures as evals end, until the next poll is due."""
        while not self._stop.is_set() and time.monotonic() < until_monotonic_s:
            state = measure(self._observer, self._measurer, state, deadline=until_monotonic_s)
            due_at = self._measurer.next_at(self._observer.unmeasured(state))
            if due_at is None:
                return state
            due_in_s, left_s = due_at - time.time(), until_monotonic_s - time.monotonic()
            if due_in_s >= left_s and not state.all_final:
                return state
            if self._wait(min(max(due_in_s, 0.2), max(left_s, 0.0))):
                return self._observer.record()
        return state

    def _interval_s(self) -> float:
        settings = self._session.settings
        return back_off_s(
            settings.poll_interval,
            failures=self._failures,
            alert_after=settings.alert_after,
            jitter=random.random(),  # noqa: S311 - no secret
        )

    def _asked_end(self) -> float | None:
        """When this job's time limit is reached: from the environment, else (22.05) from squeue, once."""
        end_time = self._session.environ.get("SLURM_JOB_END_TIME", "")
        if end_time.isdecimal():
            return float(end_time)
        with suppress(StoppedError):
            return self._session.slurm.ends_at(self._job_id) if self._job_id else None
        return None

    def _reload_settings(self) -> None:
        """Take up a change of the settings; a bad one is logged and the old ones stay."""
        version = self._settings_version()
        # If the whole directory is missing for now (a mount, say), its settings are not gone.
        if version == self._settings_seen or not os.path.isdir(self._session.experiment.directory):
            return
        self._settings_seen = version
        try:
            settings = settings_file.load(self._session.experiment.settings, environ=self._session.environ)
        except UnreadableError as error:
            self._note(BlockKind.MONITOR_CONFIG, "settings not applied", {"Error": str(error)})
            return
        self._session = replace(self._session, settings=settings)
        for part in (self._observer, self._submitter, self._measurer, self._hand_over):
            part.session = self._session
        self._measurer.retry_delay_s = settings.seff_retry_delay
        self._note(BlockKind.MONITOR_CONFIG, "settings applied", {"File": self._session.experiment.settings})

    def _settings_version(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._session.experiment.settings)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def _started(self) -> dict[str, str]:
        settings = self._session.settings
        return {
            "Job ID": self._job_id or "none",
            "Poll interval": f"{settings.poll_interval:g} s",
            "Process": f"{os.getpid()} on {os.uname().nodename}",
        }

    def _stopped(self, reason: str) -> dict[str, str]:
        return {"Reason": reason, "Job ID": self._job_id or "none"}

    def _note(self, kind: BlockKind, subject: str, fields: Mapping[str, str]) -> None:
        """Log a block now or, if that fails, with the next transaction that succeeds."""
        self._unlogged.append(blocks.note(time.time(), kind, subject, fields))
        with suppress(OSError, LockUnavailableError):
            self._log_notes()

    def _log_notes(self) -> None:
        if self._unlogged:
            self._observer.record(extra=self._unlogged)
            self._unlogged = []
