"""Captures how efficient each ended attempt was: from seff, which is asked twice, else from accounting.

Nothing here waits: an attempt that has no figures yet is left for a later step, so no poll is held up.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from msgspec.structs import replace

from evalmon_agent.collect.collect import collect
from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.figures import Figures, from_seff, from_self
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.progress_bar import progress_bar
from evalmon_agent.session import Session
from evalmon_agent.slurm import seff
from evalmon_agent.tracking.records import Eval, Evidence, ExperimentState, Measurement
from evalmon_agent.tracking.timeline import Unmeasured
from evalmon_agent.tracking.verdict import AttemptsByTime, settle
from evalmon_agent.words.job_id import parse_job_id

Key = tuple[str, str, float | None, int | None]
_PORTION_S = 5.0
"""How long captured figures are kept before they are recorded."""
_SILENT_AT_MOST = 2
"""How often in a row seff may hang before it counts as missing: each time costs its whole time-out."""
LOOK_AGAIN_AT_MOST_S = 60.0
"""How long a command that shows a summary looks again for results that were missing."""
ACCOUNTING_PATIENCE_S = 120.0
"""How long to wait for an attempt's row in accounting before the job's own report is used."""


@dataclass(slots=True)
class _Tries:
    first_at: float
    seff_again_at: float | None = None
    seff_done: bool = False

    def seff_comes(self) -> bool:
        """Whether seff is still to be asked."""
        return not self.seff_done


@dataclass(slots=True, kw_only=True)
class Measurer:
    """Captures figures for one process. `retry_delay_s`: the pause between the two calls of seff."""

    session: Session
    retry_delay_s: float
    _tries: dict[Key, _Tries] = field(default_factory=dict)
    _seff_works: bool | None = None
    _reader: LogReader = field(default_factory=lambda: LogReader(OwnedFiles(os.geteuid())))
    _seff_silent: int = 0

    def step(
        self,
        state: ExperimentState,
        unmeasured: Iterable[Unmeasured],
        *,
        clock: Callable[[], float],
        at_most_s: float,
        final: bool = False,
        show: Callable[[int], None] | None = None,
    ) -> list[Measurement]:
        """What can be measured now, one seff after another; none begins after `at_most_s`.

        `final`: wait no longer, and leave out seff where accounting has the figures. `show`: told how many are done.
        """
        began_at, by_time = clock(), AttemptsByTime(state.evals.values())
        measurements = []
        for owed in unmeasured:
            figures = self._figures(owed, now=clock(), final=final)
            if figures is not None:
                measurements.append(self.measurement(state, owed, figures, by_time))
            if show is not None:
                show(len(measurements))
            if clock() - began_at >= at_most_s:
                break
        return measurements

    def measurement(
        self,
        state: ExperimentState,
        owed: Unmeasured,
        figures: Figures,
        by_time: AttemptsByTime,
        *,
        is_later: bool = False,
    ) -> Measurement:
        """These figures, with what the attempt has left behind; `is_later`: it was measured before."""
        evidence = collect(
            self.session.experiment, state, owed, self._reader, slurm=self.session.slurm, by_time=by_time
        )
        if is_later:
            evidence = replace(evidence, looked_again_at=time.time())
        name, job_id, submitted_at, restart = owed.key
        return Measurement(name, job_id, submitted_at, figures, evidence, restart, is_later=is_later)

    def next_at(self, unmeasured: Iterable[Unmeasured]) -> float | None:
        """When the next step may bring something; None if nothing is owed."""
        times = (self._due_at(owed) for owed in unmeasured)
        return min((at for at in times if at is not None), default=None)

    def _due_at(self, owed: Unmeasured) -> float | None:
        """When this attempt can be tried again; None if only the next answer of accounting can bring its figures."""
        tries = self._tries.get(owed.key)
        if tries is None:
            return 0.0
        if tries.seff_again_at is not None and tries.seff_comes():
            return tries.seff_again_at
        return tries.first_at + ACCOUNTING_PATIENCE_S if _was_silent(owed, tries) else None

    def _figures(self, owed: Unmeasured, *, now: float, final: bool) -> Figures | None:
        tries = self._tries.setdefault(owed.key, _Tries(now))
        is_known = final and owed.attempt.accounted is not None
        if owed.is_latest and not is_known and tries.seff_comes() and self._has_seff():
            figures = self._from_seff(owed, tries, now=now)
            if figures is not None:
                return figures
            if tries.seff_comes() and not final:
                return None
        if owed.attempt.accounted is not None:
            return owed.attempt.accounted
        if final or (now - tries.first_at >= ACCOUNTING_PATIENCE_S and _was_silent(owed, tries)):
            return from_self(elapsed_s=owed.attempt.ran_for_s, time_limit_s=owed.attempt.time_limit_s)
        return None

    def _from_seff(self, owed: Unmeasured, tries: _Tries, *, now: float) -> Figures | None:
        """seff's figures; None if it has none yet or, with `seff_done`, will have none."""
        if tries.seff_again_at is not None and now < tries.seff_again_at:
            return None
        job_id = parse_job_id(owed.job.job_id)
        if job_id is None:
            tries.seff_done = True
            return None
        done = self.session.slurm.efficiency(job_id)
        self._seff_silent = self._seff_silent + 1 if done.timed_out else 0
        if self._seff_silent >= _SILENT_AT_MOST:
            self._seff_works = False
        if seff.is_broken(done.returncode or 0, done.stdout, done.stderr):
            self._seff_works = False
            tries.seff_done = True
            return None
        report = seff.parse_ended(done.stdout) if done.ok else None
        if report is not None:
            return from_seff(report, time_limit_s=owed.attempt.time_limit_s)
        tries.seff_done = tries.seff_again_at is not None
        tries.seff_again_at = now + self.retry_delay_s
        return None

    def _has_seff(self) -> bool:
        if self._seff_works is None:
            self._seff_works = self.session.slurm.has("seff")
        return self._seff_works


def look_again(observer: Observer, measurer: Measurer, state: ExperimentState, *, deadline: float) -> ExperimentState:
    """Look once more for what ended attempts left behind; no look but the first begins after `deadline` (monotonic).

    Where a result is unknown or missing, and where a log was changed since it was read: it was scored again. Those that
    were looked at longest ago come first, so that each has its turn, if not in this call.
    """
    by_time = AttemptsByTime(state.evals.values())
    settled = settle(state, by_time=by_time)
    measurements: list[Measurement] = []
    with progress_bar("Reading logs", len(state.evals)) as show:
        for number, ev in enumerate(sorted(state.evals.values(), key=_looked_again_at), 1):
            attempt, result = ev.latest, settled[ev.name]
            show(number)
            if not ev.final or attempt is None or attempt.figures is None or attempt.evidence is None:
                continue
            if measurements and time.monotonic() >= deadline:
                break
            if result.missing or result.unknown is not None or _is_changed(attempt.evidence):
                owed = Unmeasured(ev, ev.jobs[-1], attempt)
                measurements.append(measurer.measurement(state, owed, attempt.figures, by_time, is_later=True))
    return observer.record(measurements=measurements) if measurements else state


def _looked_again_at(ev: Eval) -> float:
    return 0.0 if ev.latest is None or ev.latest.evidence is None else ev.latest.evidence.looked_again_at


def _is_changed(evidence: Evidence) -> bool:
    """Whether a log has another size or time than when it was read; one that is gone has not."""
    for log in evidence.logs:
        with suppress(OSError):
            status = os.lstat(log.path)
            if (status.st_size, status.st_mtime) != (log.size_bytes, log.changed_at):
                return True
    return False


def _was_silent(owed: Unmeasured, tries: _Tries) -> bool:
    """Whether accounting has answered without the row for long enough; no answer at all does not count."""
    return owed.job.answered_at >= tries.first_at + ACCOUNTING_PATIENCE_S / 2


def measure(
    observer: Observer,
    measurer: Measurer,
    state: ExperimentState,
    *,
    final: bool = False,
    deadline: float = math.inf,
) -> ExperimentState:
    """Capture what can be captured now, in portions, so that a kill loses little; no portion begins after `deadline`.

    `deadline` is monotonic: thousands of evals that end at once must not delay a poll or the end of a job.
    """
    done = 0
    with progress_bar("Measuring", sum(1 for _ in observer.unmeasured(state))) as show:

        def show_all(more: int) -> None:
            show(done + more)

        while True:
            measurements = measurer.step(
                state, observer.unmeasured(state), clock=time.time, at_most_s=_PORTION_S, final=final, show=show_all
            )
            if measurements:
                state = observer.record(measurements=measurements)
            done += len(measurements)
            if not measurements or time.monotonic() >= deadline:
                return state
