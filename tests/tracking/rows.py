"""Builds single facts: a test gives what matters, the rest is as Slurm would report it. Times: seconds since T."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.records import (
    AccountAnswer,
    Alert,
    Attempt,
    Eval,
    ExperimentState,
    JobReport,
    QueueAnswer,
    SelfReport,
)
from evalmon_agent.tracking.registry import Registration, Submission
from evalmon_agent.tracking.timeline import EndedAttempt, Event, Step, Transition
from evalmon_agent.tracking.tracker import Facts, Tracker
from evalmon_agent.words.job_id import JobId, parse_job_id
from evalmon_agent.words.states import TERMINAL, State
from folding import fold

T = 1_790_000_000.0
NAME = "r8_lr1e-5/capitalization/epoch0"
JOB = "123"
TOKEN = "5f3a"
LOST_AFTER_S = 1800.0


def registered(name: str = NAME, job_id: str = JOB, *, at: float = 0.0, token: str | None = TOKEN) -> Registration:
    return Registration(
        Submission(name, "/exp/r8_lr1e-5/eval/cell.slurm", "/exp/out", token=token or ""), JobId(job_id), T + at
    )


def launcher(token: str) -> str:
    return f"/exp/evalmon/scripts/{token}/cell.slurm"


def row(state: State | None, *, job_id: str = JOB, submit: float | None = 1.0, **more: Any) -> SqueueRow:
    """A row of squeue. `start`, `end`: given where the job has them."""
    start, end = more.pop("start", None), more.pop("end", None)
    found = parse_job_id(job_id)
    assert found is not None
    plain = SqueueRow(
        job_id=found,
        state=state,
        state_word=str(state),
        submitted_at=None if submit is None else T + submit,
        started_at=None if start is None else T + start,
        ends_at=None if end is None else T + end,
        elapsed_s=None if start is None or end is None else end - start,
        time_limit_s=1800.0,
        reason="Priority" if state is State.PENDING else "None",
        node_list="" if start is None else "n1",
        command=launcher(TOKEN),
        name="cell",
    )
    return replace(plain, **more)


def queue(at: float, *rows: SqueueRow) -> Facts:
    return Facts(queue=QueueAnswer(T + at, rows))


def account(state: State | None, *, job_id: str = JOB, submit: float | None = 1.0, **more: Any) -> SacctJob:
    """A row of sacct."""
    start, end = more.pop("start", None), more.pop("end", None)
    found = parse_job_id(job_id)
    assert found is not None
    over = state in TERMINAL or state is State.REQUEUED
    plain = SacctJob(
        job_id=found,
        user="me",
        state=state,
        state_word=str(state),
        exit_code=0 if over and start is not None else None,
        signal=None,
        submitted_at=None if submit is None else T + submit,
        started_at=None if start is None else T + start,
        ended_at=None if end is None else T + end,
        elapsed_s=0.0 if start is None or end is None else end - start,
        time_limit_s=1800.0,
        cpus=4,
        gpus={"gpu": 1},
        total_cpu_s=100.0,
        memory_used_bytes=1000,
        memory_requested_bytes=4000,
        energy_j=None,
        node_list=None if start is None else "n1",
        ran=start is not None,
        name="cell",
    )
    return replace(plain, **more)


def accounts(at: float, *rows: SacctJob, asked: tuple[str, ...] = (JOB,), **more: Any) -> Facts:
    return Facts(accounts=[AccountAnswer(T + at, frozenset(map(JobId, asked)), rows, **more)])


def no_accounts(at: float, *, asked: tuple[str, ...] = (JOB,)) -> Facts:
    return accounts(at, asked=asked, disabled=True)


def reported(restart: int = 0, *, start: float | None = 10.0, **more: Any) -> JobReport:
    """A job's report on one attempt. With `end` and `exit_code` or `signal`, the attempt ended."""
    end = more.pop("end", None)
    begun = None if start is None else T + start
    ended = None if end is None else T + end
    elapsed_s = None if end is None or start is None else end - start
    return JobReport(restart, started_at=begun, ended_at=ended, elapsed_s=elapsed_s, **more)


def report(*attempts: JobReport, job_id: str = JOB, name: str | None = NAME, tokens: tuple[str, ...] = ()) -> Facts:
    reporter = parse_job_id(job_id)
    assert reporter is not None
    whole = SelfReport(f"{job_id}.json", repr(attempts), reporter, name, "/exp/out", attempts, frozenset(tokens))
    return Facts(reports=[whole])


class Told:
    """A state, and the events so far."""

    def __init__(self, *facts: Facts, lost_after_s: float = LOST_AFTER_S) -> None:
        self.state = ExperimentState(experiment="/exp")
        self.lost_after_s = lost_after_s
        self.events: list[Event] = []
        self.take(*facts)

    def take(self, *facts: Facts) -> list[Event]:
        """The state and events that follow from these facts, one after the other."""
        new = [event for fact in facts for event in fold(self.state, fact, lost_after_s=self.lost_after_s)]
        self.events += new
        return new

    def alerts(self, at: float) -> list[tuple[Eval, Alert]]:
        """The alerts that a poll raises at that time."""
        tracker = Tracker(self.state)
        tracker.events(lost_after_s=self.lost_after_s)
        return tracker.raise_alerts(now=T + at, poll_interval_s=60.0)

    @property
    def eval(self) -> Eval:
        [found] = self.state.evals.values()
        return found

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts of the only eval."""
        return [attempt for job in self.eval.jobs for attempt in job.attempts]

    @property
    def reports(self) -> list[JobReport]:
        """The reports of the only eval's jobs."""
        return [attempt.report for attempt in self.attempts if attempt.report is not None]

    @property
    def path(self) -> list[str]:
        """`PREVIOUS>CURRENT` of each transition."""
        return [f"{e.previous}>{e.step.state}" for e in self.events if isinstance(e, Transition)]

    @property
    def last(self) -> Step:
        return [event.step for event in self.events if isinstance(event, Transition)][-1]

    @property
    def measured(self) -> list[EndedAttempt]:
        return [event for event in self.events if isinstance(event, EndedAttempt)]


def told(*facts: Facts, **more: Any) -> Told:
    """The state after one registered eval and these facts."""
    return Told(Facts(registrations=[registered()]), *facts, **more)
