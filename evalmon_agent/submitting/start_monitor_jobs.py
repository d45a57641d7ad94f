"""Submits the completion job and the sidecar for new evals, unless they are already queued or running."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs.monitor_jobs import WAITING_BEGIN_S, active_jobs, submit_monitor_job
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.session import Session
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.slurm.squeue import SqueueAnswer
from evalmon_agent.tracking.records import ExperimentState, QueueAnswer
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.sizes import counted

Mode = Literal["sidecar", "dependency"]
MonitorJobStatus = Literal["submitted", "running", "refused", "not needed"]


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


def start_monitor_jobs(
    session: Session, *, mode: Mode, sidecar: MonitorJobReport | None = None
) -> tuple[MonitorJobReport, MonitorJobReport]:
    """Poll once, to record Submit times, then submit the completion job and the sidecar unless they are in the queue.

    Returns what became of the completion job and of the sidecar.

    `sidecar`: what became of one that was submitted before.
    """
    observer = Observer(session, role="command")
    observed = observer.observe_once(at_least_s=0)
    state, alive = observed.state, _alive(observed.queue, observed.state)
    waiting_for = active_jobs(session.experiment, state)
    old = state.completion.job_id if state.completion is not None else None
    if not waiting_for and not state.waiting:
        needless = MonitorJobReport("not needed", detail="no eval is active")
        return needless, sidecar or needless
    completion = _completion(session, old, alive, waiting_for)
    if old is not None and completion.status == "submitted" and old in alive:
        session.slurm.cancel([old])
    sidecar = sidecar or _sidecar(session, state, alive, mode=mode)
    observer.record()
    return completion, sidecar


def start_sidecar(session: Session, *, mode: Mode) -> MonitorJobReport:
    """Submit the sidecar before the last of many evals: if the site's limit is reached, it can submit the rest."""
    state = Observer(session, role="command").record()
    queue = session.slurm.queue()
    alive = _alive(None if isinstance(queue, Failure) else queue, state)
    return _sidecar(session, state, alive, mode=mode)


def _completion(
    session: Session, old: JobId | None, alive: frozenset[JobId], waiting_for: Sequence[JobId]
) -> MonitorJobReport:
    if old in alive and not _came_later(session.experiment, old):
        return MonitorJobReport("running", old)
    later_s = 0 if waiting_for else WAITING_BEGIN_S
    outcome = submit_monitor_job(session, "completion", afterany=waiting_for, later_s=later_s)
    if outcome.job_id is None:
        instead = "the sidecar submits it later, or evalmon submit" if outcome.is_full else "evalmon report"
        detail = f"{outcome.refusal} (the summary is written by the sidecar; {instead})"
        return MonitorJobReport("refused", detail=detail)
    number = len(waiting_for)
    return MonitorJobReport("submitted", outcome.job_id, f"after {counted(number, 'job')}")


def _came_later(experiment: Experiment, completion: JobId | None) -> bool:
    """Whether an eval was accepted after that completion job, which therefore does not wait for it."""
    entries = experiment.ledger.index()
    entry = entries.of_job(completion) if completion is not None else None
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
