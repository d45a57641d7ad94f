"""Submits evals, all at once or one by one as there is room, records those that must wait, starts the monitor jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs import register
from evalmon_agent.jobs.eval_scripts import write_launcher
from evalmon_agent.jobs.monitor_jobs import WAITING_BEGIN_S, active_jobs, submit_monitor_job
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.progress_bar import progress_bar
from evalmon_agent.session import Session
from evalmon_agent.slurm.client import Tested
from evalmon_agent.slurm.environment import digest, for_evals
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.slurm.sbatch import Submitted
from evalmon_agent.slurm.squeue import SqueueAnswer
from evalmon_agent.submission.plan import Prepared
from evalmon_agent.submitting.submit_waiting import Submitter, log_progress
from evalmon_agent.tracking.records import ExperimentState, QueueAnswer
from evalmon_agent.tracking.registry import Submission, waiting
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.sizes import counted

Mode = Literal["sidecar", "dependency"]
MonitorJobStatus = Literal["submitted", "running", "refused", "not needed"]

_MANY = 10
"""The sidecar is submitted after this many evals if there are more: a site's limit on submissions may be near."""

_TAKEN = "being submitted by somebody else"

_PATIENCE_S = 30.0
"""How long the command itself submits with `stagger`; then the sidecar continues."""


@dataclass(frozen=True, slots=True)
class MonitorJobReport:
    """What became of the sidecar or the completion job."""

    status: MonitorJobStatus
    job_id: JobId | None = None
    detail: str = ""


@dataclass(slots=True)
class MonitorJobReports:
    """What a command that submits did; `refused` holds Slurm's words verbatim, or why a job cannot be watched."""

    refused: list[dict[str, str]] = field(default_factory=list)
    completion: MonitorJobReport | None = None
    sidecar: MonitorJobReport | None = None

    @property
    def exit_status(self) -> int:
        """1 if an eval or a monitor job was refused."""
        monitor_jobs = [self.completion, self.sidecar]
        return int(bool(self.refused) or any(job is not None and job.status == "refused" for job in monitor_jobs))


@dataclass(frozen=True, slots=True)
class Totals:
    """What a dry run would submit: evals (each task of an array), jobs of evalmon's own, GPUs times time limits.

    `gpu_hours` is of those evals of which it is known: all but `evals_without_gpu_hours`; None if it is of none.
    """

    evals: int
    monitor_jobs: int
    gpu_hours: float | None
    evals_without_gpu_hours: int


@dataclass(slots=True)
class SubmitReport(MonitorJobReports):
    """What was done, for people and for --json; `refused` holds Slurm's words verbatim, `warnings` what will fail."""

    submitted: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str | None]] = field(default_factory=list)
    waiting: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    totals: Totals | None = None

    def skip(self, name: str, why: str, job_id: str | None = None) -> None:
        """Add an eval that is left out; `job_id`: of its last job, if there is one."""
        self.skipped.append({"name": name, "job_id": job_id, "why": why})

    def add(self, submission: Submission, *, why: str, job_id: JobId | None = None) -> None:
        """Add an eval that is submitted, or (without `job_id`) would be; `why`: it is submitted again, or waits."""
        job = {} if job_id is None else {"job_id": job_id}
        row = {"name": submission.name, **job, "script": submission.script}
        self.submitted.append({**row, "why": why} if why else row)

    def refuse(self, submission: Submission, outcome: Submitted | Tested) -> None:
        """Add a script with Slurm's message about it."""
        error = outcome.refusal
        if isinstance(outcome, Submitted) and outcome.unknown:
            error += "; it is not known whether Slurm took it: run the same command again to find out"
        self.refused.append({"name": submission.name, "script": submission.script, "error": error})


@dataclass(frozen=True, slots=True)
class EvalSubmitter:
    """Submits evals for one command, or records that they wait."""

    session: Session
    report: SubmitReport
    mode: Mode
    sleep: Callable[[float], object] = time.sleep

    def submit(self, new: Sequence[Prepared]) -> None:
        """Submit these and the evals that already wait, as far as there is room."""
        settings = self.session.settings
        if settings.max_submit is not None or settings.stagger:
            self._plan(new)
        else:
            self._submit_until_full(new)
        self._submit_waiting({prepared.submission.token: prepared for prepared in new})

    def _submit_until_full(self, new: Sequence[Prepared]) -> None:
        with progress_bar("Submitting", len(new)) as show:
            for number, prepared in enumerate(new, 1):
                if not self._submit_one(prepared):
                    self._plan(new[number - 1 :])
                    return
                show(number)
                if number == _MANY and len(new) > number and self.mode == "sidecar":
                    self.report.sidecar = _start_sidecar(self.session)

    @register.uninterrupted()
    def _submit_one(self, prepared: Prepared) -> bool:
        """False if the site takes no more for now."""
        submission = prepared.submission
        write_launcher(self.session, prepared)
        if register.claim_evals(self.session, submission, instead_of=prepared.instead_of) != "claimed":
            self.report.skip(submission.name, _TAKEN)
            return True
        outcome = register.submit(self.session, submission)
        if outcome.job_id is not None:
            self.report.add(submission, why=prepared.why, job_id=outcome.job_id)
        elif not outcome.is_full:
            self.report.refuse(submission, outcome)
        return not outcome.is_full

    def _plan(self, new: Sequence[Prepared]) -> None:
        """Record these as waiting, with the environment that they are to have."""
        experiment = self.session.experiment
        for prepared in new:
            write_launcher(self.session, prepared)
        entries = experiment.ledger.entries()
        salts = (e.planned.environment.partition(":")[0] for e in entries if e.planned is not None)
        environment = digest(for_evals(self.session.environ), salt=next(salts, None) or register.new_token())
        planned = register.plan_evals(experiment, new, environment=environment)
        for prepared in new:
            if prepared.submission.token not in planned:
                self.report.skip(prepared.submission.name, _TAKEN)

    def _submit_waiting(self, new: Mapping[str, Prepared]) -> None:
        submitter = Submitter(self.session, "submitting", self.sleep)
        progress = submitter.run(until_monotonic_s=time.monotonic() + _PATIENCE_S)
        for submission, job_id in progress.submitted:
            prepared = new.get(submission.token)
            why = prepared.why if prepared is not None else ""
            self.report.add(submission, why=why or progress.changes.get(submission.token, ""), job_id=job_id)
        for submission, outcome in progress.refused:
            self.report.refuse(submission, outcome)
        left = waiting(self.session.experiment.ledger.entries())
        why = progress.detail or "submitted by somebody else"
        self.report.waiting += [{"name": entry.submission.name, "why": why} for entry in left]
        if left:
            log_progress(Observer(self.session, role="command"), progress)


def start_monitor_jobs(session: Session, report: MonitorJobReports, *, mode: Mode) -> None:
    """Poll once, to record Submit times, then submit the completion job and the sidecar unless they are in the queue.

    The report gets what became of them; it may have a sidecar that was submitted before.
    """
    observer = Observer(session, role="command")
    observed = observer.observe_once(at_least_s=0)
    state, alive = observed.state, _alive(observed.queue, observed.state)
    waiting_for = active_jobs(session.experiment, state)
    old = state.completion.job_id if state.completion is not None else None
    old = old if old in alive else None
    if not waiting_for and not state.waiting:
        report.completion = MonitorJobReport("not needed", detail="no eval is active")
        report.sidecar = report.sidecar or report.completion
        return
    report.completion = _completion(session, old, waiting_for)
    if old is not None and report.completion.status == "submitted":
        session.slurm.cancel([old])
    report.sidecar = report.sidecar or _sidecar(session, state, alive, mode=mode)
    observer.record()


def _start_sidecar(session: Session) -> MonitorJobReport:
    """Submit the sidecar before the last of many evals: if the site's limit is reached, it can submit the rest."""
    state = Observer(session, role="command").record()
    queue = session.slurm.queue()
    alive = _alive(None if isinstance(queue, Failure) else queue, state)
    return _sidecar(session, state, alive, mode="sidecar")


def _completion(session: Session, old: JobId | None, waiting_for: Sequence[JobId]) -> MonitorJobReport:
    """`old`: a completion job that is not over."""
    if old is not None and not _came_later(session.experiment, old):
        return MonitorJobReport("running", old)
    later_s = 0 if waiting_for else WAITING_BEGIN_S
    outcome = submit_monitor_job(session, "completion", afterany=waiting_for, later_s=later_s)
    if outcome.job_id is None:
        instead = "the sidecar submits it later, or evalmon submit" if outcome.is_full else "evalmon report"
        detail = f"{outcome.refusal} (the summary is written by the sidecar; {instead})"
        return MonitorJobReport("refused", detail=detail)
    number = len(waiting_for)
    return MonitorJobReport("submitted", outcome.job_id, f"after {counted(number, 'job')}")


def _came_later(experiment: Experiment, completion: JobId) -> bool:
    """Whether an eval was accepted after that completion job, which therefore does not wait for it."""
    entries = experiment.ledger.index()
    entry = entries.of_job(completion)
    since = entry.at if entry is not None else 0.0
    return any(e.is_eval and e.accepted is not None and e.accepted.at > since for e in entries)


def _sidecar(session: Session, state: ExperimentState, alive: frozenset[JobId], *, mode: Mode) -> MonitorJobReport:
    if mode == "dependency":
        return MonitorJobReport("not needed", detail="mode dependency: no live view")
    if state.sidecar is not None and state.sidecar.job_id in alive:
        return MonitorJobReport("running", state.sidecar.job_id)
    outcome = submit_monitor_job(session, "sidecar")
    if outcome.job_id is None:
        return MonitorJobReport(
            "refused", detail=f"{outcome.refusal} (no live view; the completion job writes the summary)"
        )
    return MonitorJobReport("submitted", outcome.job_id)


def _alive(queue: QueueAnswer | SqueueAnswer | None, state: ExperimentState) -> frozenset[JobId]:
    """All jobs that are not over; without an answer of squeue the monitor jobs, so that none is submitted twice."""
    if queue is None:
        jobs = (state.sidecar, state.completion)
        return frozenset(job.job_id for job in jobs if job is not None and job.job_id is not None)
    return frozenset(row.job_id for row in queue.rows if row.goes_on)
