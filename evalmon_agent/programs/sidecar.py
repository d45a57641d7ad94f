"""`evalmon sidecar`: the live view. Polls until all evals are over, hands itself on before its time limit."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Mapping
from types import FrameType

from evalmon_agent.errors import EvalmonError, UnreadableError
from evalmon_agent.logbook import blocks
from evalmon_agent.programs.complete import measure
from evalmon_agent.programs.finalize import finalize, is_complete, is_ready, write_summary
from evalmon_agent.programs.measure import Measurer
from evalmon_agent.programs.observe import Observed, Observer
from evalmon_agent.programs.our_jobs import Helpers
from evalmon_agent.programs.resources import resource_blocks
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.store import settings as settings_file
from evalmon_agent.store.experiment import Experiment
from evalmon_agent.tracking.helpers import all_final
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.timing import back_off_s, hand_over_at


class Sidecar:
    """One sidecar's life: `run` returns when its work is done or handed on."""

    def __init__(self, experiment: Experiment, settings: Settings, slurm: Slurm, *, environ: Mapping[str, str]) -> None:
        self._experiment = experiment
        self._slurm = slurm
        self._environ = environ
        self._job_id = environ.get("SLURM_JOB_ID")
        self._observer = Observer(experiment, slurm, settings, role="sidecar")
        self._measurer = Measurer(experiment=experiment, slurm=slurm, retry_delay_s=settings.seff_retry_delay)
        self._stop = threading.Event()
        self._signal: str | None = None
        self._polls = 0
        self._failures = 0
        self._settings_seen = self._settings_version()
        self._started_at = time.time()
        self._ends_at = self._asked_end()

    def run(self) -> None:
        """Poll, measure and log until there is nothing left to watch."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        self._note("MONITOR_STARTED", "sidecar", self._started())
        while True:
            reason = self._turn()
            if reason is not None:
                self._note("MONITOR_STOPPED", "sidecar", {"Reason": reason, "Job ID": self._job_id or "none"})
                return

    def _turn(self) -> str | None:
        """One poll and the work until the next; the reason to stop, if there is one."""
        next_at = time.monotonic() + self._interval_s()
        try:
            self._reload_settings()
            observed = self._poll()
            state = self._work(observed.state, until=next_at)
            if is_ready(state):
                state = finalize(self._observer) if not is_complete(state) else state
                if is_complete(state):
                    write_summary(self._experiment, state, observer=self._observer)
                    return "all evaluations are over"
            successor = self._hand_over()
            if successor is not None:
                return successor
        except (EvalmonError, OSError) as error:
            # The one catch-all of this loop: a poll that cannot be written is held until it can.
            self._failures += 1
            print(f"poll failed: {error}", flush=True)
        self._stop.wait(max(next_at - time.monotonic(), 0.1))
        return f"ended by {self._signal}" if self._stop.is_set() else None

    def _poll(self) -> Observed:
        self._polls += 1
        observed = self._observer.observe_once()
        self._failures = self._failures + 1 if observed.failure is not None else 0
        if observed.asked and self._polls % self._observer.settings.gpu_status_every == 0:
            found = resource_blocks(observed.state, self._observer.settings, now=time.time())
            if found:
                self._observer.record(extra=found)
        return observed

    def _work(self, state: ExperimentState, *, until: float) -> ExperimentState:
        """Capture figures as evals end, until the next poll is due."""
        while not self._stop.is_set() and time.monotonic() < until:
            state = measure(self._observer, self._measurer, state)
            due_at = self._measurer.next_at(state)
            if due_at is None or not (all_final(state) or due_at < time.time() + until - time.monotonic()):
                return state
            self._stop.wait(min(max(due_at - time.time(), 0.2), max(until - time.monotonic(), 0.0)))
        return state

    def _interval_s(self) -> float:
        settings = self._observer.settings
        return back_off_s(settings.poll_interval, failures=self._failures, alert_after=settings.alert_after)

    def _hand_over(self) -> str | None:
        """Before the time limit: a successor. The reason to stop, once there is one or none can be had."""
        interval_s = self._observer.settings.poll_interval
        if self._ends_at is None or time.time() < hand_over_at(self._started_at, self._ends_at, interval_s):
            return None
        outcome = Helpers(self._experiment, self._slurm, self._observer.settings, self._environ).submit("sidecar")
        if outcome.job_id is not None:
            return f"handed over to job {outcome.job_id} before the time limit"
        return f"time limit near and no successor ({outcome.refusal}); the completion job summarises"

    def _asked_end(self) -> float | None:
        """When this job's time limit is reached: from the environment, else (22.05) from squeue, once."""
        said = self._environ.get("SLURM_JOB_END_TIME", "")
        if said.isdecimal():
            return float(said)
        return self._slurm.ends_at(self._job_id) if self._job_id else None

    def _reload_settings(self) -> None:
        """Take up a change of the settings; a bad one is logged and the old ones stay."""
        version = self._settings_version()
        if version == self._settings_seen:
            return
        self._settings_seen = version
        try:
            self._observer.settings = settings_file.load(self._experiment.settings, environ=self._environ)
        except UnreadableError as error:
            self._note("MONITOR_CONFIG", "settings not taken up", {"Error": str(error)})
            return
        self._measurer.retry_delay_s = self._observer.settings.seff_retry_delay
        self._note("MONITOR_CONFIG", "settings taken up", {"File": self._experiment.settings})

    def _settings_version(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._experiment.settings)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size

    def _started(self) -> dict[str, str]:
        settings = self._observer.settings
        return {
            "Job ID": self._job_id or "none",
            "Poll interval": f"{settings.poll_interval:g} s",
            "Process": f"{os.getpid()} on {os.uname().nodename}",
        }

    def _note(self, kind: str, subject: str, fields: Mapping[str, str]) -> None:
        self._observer.record(extra=[blocks.note(time.time(), kind, subject, fields)])

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._signal = signal.Signals(number).name
        self._stop.set()
