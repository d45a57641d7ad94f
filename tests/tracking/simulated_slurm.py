"""Simulates Slurm: jobs whose whole history is known, and every answer that an observer could get about them.

Times are seconds since EPOCH of the simulation, and an argument of each query. Independent of evalmon's own code.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hypothesis import strategies as st

from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.tracking.records import AccountAnswer, JobReport, QueueAnswer, SelfReport
from evalmon_agent.tracking.registry import Registration, Submission
from evalmon_agent.words.job_id import JobId, parse_job_id
from evalmon_agent.words.states import MAY_RUN_AGAIN, TERMINAL, State

EPOCH = 1_790_000_000.0
LIMIT_S = 36_000.0
MAX_LAG_S = 100
MIN_JOB_AGE_S = 300
VANISHED_S = 310
"""SlurmdTimeout: how long a node may be silent before Slurm believes that it is gone."""
REQUEUE_S = 10
"""Slurm submits a requeued job anew once it is cleaned up, and starts it two minutes later."""

RAN_TO = {
    State.COMPLETED: (0, None),
    State.FAILED: (3, None),
    State.CANCELLED: (None, 15),
    State.TIMEOUT: (None, 15),
    State.OUT_OF_MEMORY: (1, None),
    State.NODE_FAIL: None,
    State.PREEMPTED: (None, 15),
    State.BOOT_FAIL: None,
    State.DEADLINE: (None, 15),
    State.REVOKED: None,
    State.REQUEUED: (None, 15),
}
"""How the command ended, as its job reports it; None: the job had no time to report."""

WITHOUT_START = (State.CANCELLED, State.DEADLINE, State.REVOKED, State.BOOT_FAIL)
AGAIN = (State.REQUEUED, State.NODE_FAIL, State.PREEMPTED, State.BOOT_FAIL)
"""After these Slurm itself may start a job again. That a person requeues one that is over is another matter: it may
be over a second time before anybody looks, since nobody has a reason to."""


@dataclass(frozen=True)
class TrueAttempt:
    """What really happened. `suspensions` are (from, to); the last may last until the end.

    `restart`: the value of SLURM_RESTART_COUNT; `accounted`: accounting has it at some time; `waits_as`: squeue's
    state while it is pending.
    """

    submitted_at: float
    started_at: float | None
    ended_at: float
    end: State
    suspensions: tuple[tuple[float, float], ...] = ()
    completing_s: float = 0.0
    shown_as_requeued: bool = False
    reports: bool = True
    restart: int = 0
    accounted: bool = True
    waits_as: str = "PENDING"

    @property
    def told_end(self) -> State:
        """What anybody can know of its end: that it was followed by another, where accounting has no row."""
        return self.end if self.accounted else State.REQUEUED

    def live_at(self, at: float) -> State:
        """What the records can show of its end: that another attempt followed, where accounting has no row."""
        return State.SUSPENDED if any(a <= at < b for a, b in self.suspensions) else State.RUNNING


@dataclass(frozen=True)
class TrueJob:
    """One submission with all its attempts. `seen_as`: the id in Slurm's own rows, where it differs."""

    job_id: str
    name: str
    attempts: tuple[TrueAttempt, ...]
    old_bearer: bool = False
    late_bearer: bool = False
    seen_as: str = ""

    @property
    def token(self) -> str:
        return f"token{self.job_id}"

    @property
    def id(self) -> JobId:
        found = parse_job_id(self.seen_as or self.job_id)
        assert found is not None
        return found

    @property
    def registered_at(self) -> float:
        return self.attempts[0].submitted_at - 1

    @property
    def over_at(self) -> float:
        return self.attempts[-1].ended_at

    def registration(self) -> Registration:
        return Registration(
            Submission(self.name, f"/exp/{self.name}.slurm", token=self.token or ""),
            JobId(self.job_id),
            self.registered_at,
        )

    def true_path(self, *, suspended: bool = True) -> list[tuple[str, State]]:
        """Every state that it went through, without the registration. COMPLETING counts as RUNNING."""
        path: list[tuple[str, State]] = []
        for number, attempt in enumerate(self.attempts):
            if number:
                path.append((self.job_id, State.PENDING))
            if attempt.started_at is not None:
                path.append((self.job_id, State.RUNNING))
                for _ in attempt.suspensions if suspended else ():
                    path += [(self.job_id, State.SUSPENDED), (self.job_id, State.RUNNING)]
            path.append((self.job_id, attempt.told_end))
        return path

    def attempt_at(self, at: float) -> TrueAttempt | None:
        return next((a for a in reversed(self.attempts) if a.submitted_at <= at), None)

    def row_at(self, at: float) -> SqueueRow | None:
        """squeue's row."""
        attempt = self.attempt_at(at)
        if attempt is None:
            return None
        state, word = self._shown_at(attempt, at)
        if word == "":
            return None
        started = attempt.started_at is not None and attempt.started_at <= at
        over = state in TERMINAL
        ends_at = attempt.ended_at if over else (attempt.started_at or 0) + LIMIT_S
        started_at = attempt.started_at or 0.0
        elapsed_s = (min(at, attempt.ended_at) - started_at) if started else None
        return SqueueRow(
            job_id=self.id,
            state=state,
            state_word=word,
            submitted_at=attempt.submitted_at,
            started_at=started_at if started else None,
            ends_at=ends_at if started or over else None,
            elapsed_s=elapsed_s,
            time_limit_s=LIMIT_S,
            reason="None" if started else "Priority",
            node_list="n1" if started else "",
            command=f"/exp/evalmon/scripts/{self.token}/cell.slurm",
            name="cell",
        )

    def _shown_at(self, attempt: TrueAttempt, at: float) -> tuple[State | None, str]:
        if at < attempt.ended_at:
            started = attempt.started_at is not None and attempt.started_at <= at
            waits = State.PENDING if attempt.waits_as == "PENDING" else State.REQUEUED
            state = attempt.live_at(at) if started else waits
            return state, str(state) if started else attempt.waits_as
        if attempt is not self.attempts[-1] and attempt.end in AGAIN:
            requeued = attempt.shown_as_requeued and attempt.started_at is not None
            if attempt.started_at is None:
                return State.PENDING, "PENDING"
            return (State.REQUEUED, "REQUEUED") if requeued else (State.RUNNING, "COMPLETING")
        if at < attempt.ended_at + attempt.completing_s and attempt.started_at is not None:
            return State.RUNNING, "COMPLETING"
        if attempt is self.attempts[-1] and at >= attempt.ended_at + MIN_JOB_AGE_S:
            return None, ""
        return attempt.end, str(attempt.end)

    def accounts_at(self, at: float) -> list[SacctJob]:
        """sacct's rows as of what the database had at that time."""
        rows = [self._accounted(old(self), at)] if self.old_bearer else []
        rows += [self._accounted(a, at) for a in self.attempts if a.submitted_at <= at and a.accounted]
        later = late(self)
        # After a node failure, for example, another user's row looks like that of the next attempt.
        tells = self.late_bearer and self.attempts[-1].end not in MAY_RUN_AGAIN and later.submitted_at <= at
        return [*rows, self._accounted(later, at)] if tells else rows

    def _accounted(self, attempt: TrueAttempt, at: float) -> SacctJob:
        started = attempt.started_at is not None and attempt.started_at <= at
        over = attempt.ended_at <= at
        exit_code, signal = (RAN_TO[attempt.end] or (0, None)) if over and started else (None, None)
        started_at = attempt.started_at or 0.0
        live = attempt.live_at(at) if started else State.PENDING
        return SacctJob(
            job_id=self.id,
            user="me",
            state=attempt.end if over else live,
            state_word="",
            exit_code=exit_code,
            signal=signal,
            submitted_at=attempt.submitted_at,
            started_at=started_at if started else None,
            ended_at=attempt.ended_at if over else None,
            elapsed_s=(min(at, attempt.ended_at) - started_at) if started else 0.0,
            time_limit_s=LIMIT_S,
            cpus=4,
            gpus={"gpu": 1},
            total_cpu_s=10.0,
            memory_used_bytes=1000,
            memory_requested_bytes=2000,
            energy_j=None,
            node_list="n1" if started else None,
            ran=started,
            name="cell",
        )

    def report_at(self, at: float) -> SelfReport | None:
        """The content of the job's own report at that time; None if there is none."""
        reports = [
            self._report_of(a.restart, a, at) for a in self.attempts if a.reports and (a.started_at or at + 1) <= at
        ]
        if not reports:
            return None
        job_id = self.id
        return SelfReport(
            f"{job_id}.json", repr(reports), JobId(job_id), self.name, "/exp/out", reports, frozenset({self.token})
        )

    def _report_of(self, restart: int, attempt: TrueAttempt, at: float) -> JobReport:
        started_at = (attempt.started_at or 0.0) + 0.5
        end = RAN_TO[attempt.end]
        if end is None or attempt.ended_at > at:
            return JobReport(restart, self.token, started_at)
        ended_at = attempt.ended_at - 0.25
        return JobReport(restart, self.token, started_at, ended_at, ended_at - started_at, *end)


def old(job: TrueJob) -> TrueAttempt:
    """Another user's job that had the same id long ago."""
    begun = job.registered_at - 864_000
    return TrueAttempt(begun, begun + 5, begun + 50, State.COMPLETED)


def late(job: TrueJob) -> TrueAttempt:
    """Another user's job that got the same id later, from a controller that lost its state."""
    begun = job.over_at + 30
    return TrueAttempt(begun, begun + 5, begun + 50, State.COMPLETED)


@dataclass(frozen=True)
class Cluster:
    """All jobs, and the answers about them."""

    jobs: tuple[TrueJob, ...]

    @property
    def over_at(self) -> float:
        return max(job.over_at for job in self.jobs)

    def registrations(self) -> list[Registration]:
        return [job.registration() for job in self.jobs]

    def queue(self, at: float, *, mystery: bool = False) -> QueueAnswer:
        """squeue's answer; with `mystery`, active jobs have states that evalmon does not know."""
        rows = [row for job in self.jobs if (row := job.row_at(at)) is not None]
        return QueueAnswer(at, [_mysterious(row) if mystery else row for row in rows])

    def accounts(self, at: float, *, lag: float = 0.0, asked: Iterable[JobId] | None = None) -> AccountAnswer:
        """sacct's answer, from a database that is `lag` seconds behind."""
        ids = frozenset(JobId(job.job_id) for job in self.jobs) if asked is None else frozenset(asked)
        rows = [row for job in self.jobs if job.job_id in ids for row in job.accounts_at(at - lag)]
        return AccountAnswer(at, ids, rows)

    def reports(self, at: float) -> list[SelfReport]:
        return [report for job in self.jobs if (report := job.report_at(at)) is not None]


def _mysterious(row: SqueueRow) -> SqueueRow:
    if row.state in TERMINAL or row.state is None:
        return row
    return replace(row, state=None, state_word="MYSTERY", started_at=None, elapsed_s=None)


@dataclass
class _Clock:
    at: float

    def after(self, seconds: float) -> float:
        self.at += seconds
        return self.at


@st.composite
def attempts(draw: st.DrawFn, *, begin: float, longest_s: int, nodes_vanish: bool) -> tuple[TrueAttempt, ...]:
    """A job's life: one to three attempts, each but the last followed by another.

    Where a node vanished, SLURM_RESTART_COUNT goes up by two, and accounting may have no row of that run.
    """
    clock = _Clock(begin)
    pause = st.integers(1, longest_s)
    number = draw(st.integers(1, 3))
    found = []
    restart = 0
    for n in range(number):
        last = n + 1 == number
        submitted_at = clock.after(draw(pause) + REQUEUE_S if n else 1)
        starts = not last or draw(st.booleans())
        started_at = clock.after(draw(pause)) if starts else None
        suspensions: list[tuple[float, float]] = []
        for _ in range(draw(st.integers(0, 2)) if starts else 0):
            begun = clock.after(draw(pause))
            suspensions.append((begun, clock.after(draw(pause))))
        to_the_end = bool(suspensions) and draw(st.booleans())
        ended_at = clock.at if to_the_end else clock.after(draw(pause))
        ends = AGAIN if not last else tuple(RAN_TO) if starts else WITHOUT_START
        end = draw(st.sampled_from([e for e in ends if not last or e is not State.REQUEUED]))
        vanishes = nodes_vanish and not last and end is State.NODE_FAIL
        # Slurm needs a while to notice that a node is gone.
        ended_at = clock.after(VANISHED_S) if vanishes else ended_at
        found.append(
            TrueAttempt(
                submitted_at,
                started_at,
                ended_at,
                end,
                tuple(suspensions),
                completing_s=draw(st.sampled_from([0.0, 5.0, 90.0])),
                shown_as_requeued=draw(st.booleans()),
                reports=vanishes or draw(st.booleans()),
                restart=restart,
                accounted=not (vanishes and draw(st.booleans())),
                waits_as=draw(st.sampled_from(["PENDING", "REQUEUE_HOLD", "SPECIAL_EXIT"])) if n else "PENDING",
            )
        )
        restart += 2 if vanishes else 1
    return tuple(found)


@st.composite
def clusters(draw: st.DrawFn, *, most: int = 3, longest_s: int = 200, nodes_vanish: bool = False) -> Cluster:
    """One to `most` jobs: plain ones, tasks of an array, a het job; some bear an id that is used before or after.

    `longest_s`: how long any of their states lasts at most.
    """
    kinds = draw(st.lists(st.sampled_from(["plain", "task", "het"]), min_size=1, max_size=most))
    jobs = []
    for n, kind in enumerate(kinds):
        job_id = f"77_{n}" if kind == "task" else str(100 + n)
        begin = EPOCH + draw(st.integers(0, longest_s))
        life = draw(attempts(begin=begin, longest_s=longest_s, nodes_vanish=nodes_vanish))
        seen_as = f"{job_id}+0" if kind == "het" else ""
        jobs.append(TrueJob(job_id, f"run/task/epoch{n}", life, draw(st.booleans()), draw(st.booleans()), seen_as))
    return Cluster(tuple(jobs))


def without_suspensions(path: Sequence[tuple[str, State]]) -> list[tuple[str, State]]:
    """The path as an observer sees it that never polled at the right time."""
    kept: list[tuple[str, State]] = []
    after_suspension = False
    for job_id, state in path:
        if state is State.SUSPENDED or (after_suspension and state is State.RUNNING):
            after_suspension = state is State.SUSPENDED
            continue
        after_suspension = False
        kept.append((job_id, state))
    return kept
