"""Defines the records of state.json, of the facts that change it, and of the events that follow. Unknown is None.

Times are epoch seconds. `gc=False`: trees without cycles, of which 5,000 evals make 20,000; the collector's walks were
a quarter of a poll.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct, field
from msgspec.structs import replace

from evalmon_agent.evidence.diagnosis.causes import Diagnosis
from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.evidence.kinds.kind import ObservedProgram
from evalmon_agent.evidence.result import EvalLog
from evalmon_agent.figures import Figures
from evalmon_agent.slurm.sacct import SacctJob
from evalmon_agent.slurm.squeue import SqueueRow
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State

SCHEMA = 1
AlertKind = Literal["waits", "unreported"]
ReportedBy = Literal["sacct", "squeue", "self", "none"]
"""Who reported an end."""


class Witness(Struct, omit_defaults=True, frozen=True, gc=False):
    """Who looked at the job's processes (`by`: cgroup, or the job's id in their environment), and from when to when.

    `left_out`: so many programs are not recorded; `nodes_unseen`: on so many of the job's nodes nobody looked;
    `trouble`: what went wrong.
    """

    by: str | None = None
    since: float | None = None
    until: float | None = None
    left_out: int = 0
    nodes_unseen: int = 0
    trouble: str | None = None


class JobReport(Struct, omit_defaults=True, gc=False):
    """A job's report about one of its attempts; its clock is the node's, never subtracted from Slurm's.

    `restart`: SLURM_RESTART_COUNT; `token`: that of the submission which the job came from, if it knows;
    `eval_programs`: those that `witness` saw, which is None where nobody looked all the time;
    `has_no_gpu`: Slurm gave the job none, by its environment.
    """

    restart: int
    token: str | None = None
    started_at: float | None = None
    ended_at: float | None = None
    elapsed_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    whole_job: bool = True
    host: str | None = None
    notes: list[str] = []
    eval_programs: list[ObservedProgram] = []
    witness: Witness | None = None
    sample_interval_s: float | None = None
    has_no_gpu: bool = False

    @property
    def ended(self) -> bool:
        """Whether the report says how the whole job's command ended."""
        return self.whole_job and (self.exit_code is not None or self.signal is not None)


class Foreign(Struct, frozen=True, gc=False):
    """A file that was ignored, because it, or a link on the way to it, belongs to somebody else. Printable."""

    path: str
    owner: str


class Evidence(Struct, omit_defaults=True, frozen=True, gc=False):
    """What one attempt left behind, read once after its end.

    `logs`: those that may be its own; `printed`: the paths of those that its output names as finished; `configured`:
    the directories that programs' settings files name; `not_all_read`: why more of its logs may be there;
    `names_framework`: its script does, which proves nothing; `log` is where Slurm put the job's output, which
    `ends_in_error` that nobody handled; `diagnosis`: why it failed, if it did; `looked_again_at`: when it was last
    looked for again, in epoch seconds.
    """

    gpu: GpuFigures | None = None
    logs: list[EvalLog] = []
    printed: list[str] = []
    configured: dict[str, str] = {}
    not_all_read: str | None = None
    names_framework: bool = False
    log: str | None = None
    diagnosis: Diagnosis | None = None
    ends_in_error: bool = False
    foreign: list[Foreign] = []
    looked_again_at: float = 0.0

    def with_what_is_gone(self, before: Evidence | None) -> Evidence:
        """With what an earlier look found and this one did not: a result stays when its file is gone."""
        if before is None:
            return self
        is_output_gone = self.log is None
        logs = {log.path: log for log in before.logs} | {log.path: log for log in self.logs}
        return replace(
            self,
            gpu=self.gpu or before.gpu,
            logs=list(logs.values()),
            printed=before.printed if is_output_gone else self.printed,
            configured=before.configured | self.configured,
            names_framework=self.names_framework or before.names_framework,
            log=before.log if is_output_gone else self.log,
            diagnosis=before.diagnosis if is_output_gone else self.diagnosis,
            ends_in_error=before.ends_in_error if is_output_gone else self.ends_in_error,
        )


class Attempt(Struct, omit_defaults=True, gc=False):
    """One run of a job (or its wait for one), identified by its Submit time; a requeue starts a new one.

    squeue's and accounting's answers are kept apart; which of them counts is decided in `timeline.steps`,
    so the order of answers never matters. `queue_at`: when squeue's answer last changed; `superseded_at`: when it
    was first known that a later attempt follows. `report`: what the job itself reported of this attempt, as far as is
    known (`attempts.align`). Without `submitted_at` only that report knows of it, the one with this `restart`.
    `gpus`, `energy_j`: as sacct has them (`SacctJob`).
    """

    submitted_at: float | None = None
    restart: int | None = None
    queue_state: State | None = None
    queue_at: float = 0.0
    queue_reason: str = ""
    superseded_at: float | None = None
    running_seen_at: float | None = None
    suspensions: list[tuple[float, State]] = []
    account_state: State | None = None
    account_at: float = 0.0
    ran: bool = False
    started_at: float | None = None
    ended_at: float | None = None
    elapsed_s: float | None = None
    time_limit_s: float | None = None
    ends_at: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    cancelled_by: int | None = None
    node_list: str | None = None
    cpus: int | None = None
    gpus: dict[str, int] | None = None
    energy_j: float | None = None
    accounted: Figures | None = None
    figures: Figures | None = None
    evidence: Evidence | None = None
    report: JobReport | None = None

    @property
    def has_run(self) -> bool:
        """Whether it started, by any witness."""
        return self.ran or self.report is not None

    @property
    def ran_for_s(self) -> float | None:
        """How long it ran, by Slurm, else by its own report."""
        return self.elapsed_s if self.elapsed_s is not None or self.report is None else self.report.elapsed_s


class Alert(Struct, omit_defaults=True, gc=False):
    """What the log told once about a job, for a person to act on; `cleared_at`: since when it is known to be over.

    `kind` is `waits` (`reason`: Slurm's pending reason, verbatim) or `unreported` (it runs without a report).
    """

    kind: AlertKind
    at: float
    reason: str = ""
    cleared_at: float | None = None


class Job(Struct, omit_defaults=True, gc=False):
    """One submission of an eval, with its attempts, oldest first.

    `token`: part of the path that was submitted; None: the job was adopted.
    `submitted_at`: its Submit, where that was known when it was adopted: an earlier one is of another job with this id.
    `output`, `errors`: where Slurm writes what an adopted job prints, as patterns of sbatch(1).
    `missing_at`: when squeue last showed it not at all, or only as ended; `answered_at`: when sacct last answered
    about it; `unaccounted_at`: when sacct last answered, for a missing one, without an end; `unknown_s`: for how
    long it did. None: not so.
    """

    job_id: JobId
    registered_at: float
    token: str | None = None
    submitted_at: float | None = None
    output: str | None = None
    errors: str | None = None
    missing_at: float | None = None
    answered_at: float = 0.0
    unaccounted_at: float | None = None
    unknown_s: float = 0.0
    no_accounting: bool = False
    alerts: list[Alert] = []
    attempts: list[Attempt] = []

    @property
    def latest(self) -> Attempt | None:
        """Its latest attempt; all others are superseded."""
        return self.attempts[-1] if self.attempts else None


class Logged(Struct, omit_defaults=True, frozen=True, gc=False):
    """A transition that the log has. `submitted_at`: of an end, the Submit of the attempt that ended, if known."""

    job_id: str
    state: State
    submitted_at: float | None = None


class Eval(Struct, gc=False):
    """One eval with all its jobs, oldest first; `job_id` and `state` are the latest job's.

    `logged`: the transitions that the log has, in its order; what is still to be logged follows from them and from
    the attempts.
    """

    name: str
    job_id: JobId
    state: State = State.PENDING
    final: bool = False
    script: str | None = None
    output_dir: str | None = None
    jobs: list[Job] = []
    logged: list[Logged] = []

    @property
    def latest(self) -> Attempt | None:
        """The latest attempt of its latest job."""
        return self.jobs[-1].latest if self.jobs else None

    def logged_state(self, job_id: str) -> State | None:
        """The last state of this job that the log has."""
        return next((entry.state for entry in reversed(self.logged) if entry.job_id == job_id), None)


class Waiting(Struct, omit_defaults=True):
    """An eval that is to be submitted when there is room: since when, and its script."""

    since: float
    script: str


class Refusal(Struct, omit_defaults=True, frozen=True):
    """Slurm refused the last submission of an eval: when, its words verbatim, and the script."""

    at: float
    error: str
    script: str


class MonitorJob(Struct, omit_defaults=True):
    """A monitor job: the sidecar, or the completion job with its status.

    `alive`: whether squeue showed it as not over when it was last asked; None: not asked since it was submitted.
    """

    job_id: JobId | None = None
    status: str | None = None
    alive: bool | None = None


class Outage(Struct, omit_defaults=True):
    """Failed polls in a row: since when, how many, and whether the user was alerted."""

    since: float
    failures: int = 0
    alerted: bool = False
    error: str = ""


class Outbox(Struct, omit_defaults=True):
    """Text that a file must have from `offset` on; a process that loads the state makes sure of that."""

    offset: int
    text: str


class Recovered(Struct, omit_defaults=True):
    """What the log already says, by printed name, of evals that a lost state knew and this one does not yet."""

    logged: dict[str, list[Logged]] = field(default_factory=dict)
    measured: dict[str, list[str]] = field(default_factory=dict)


class Notified(Struct, omit_defaults=True):
    """What notifications were made about, so that each is made once; empty where nobody is to be notified.

    `completions`: how many; `outage_since`: of the outage that is not over; `causes`: of failures; `alerts`: those that
    are not cleared, with the job id of each eval; `failing`: the targets of which the log says that sending fails.
    """

    completions: int = 0
    outage_since: float | None = None
    causes: list[str] = []
    alerts: dict[str, dict[str, str]] = field(default_factory=dict)
    failing: list[str] = []


class ExperimentState(Struct, omit_defaults=False):
    """state.json. `generation` counts the saves.

    `reported`: which version of each self-report has been taken in; `completions`: how many ALL_COMPLETE;
    `told`: the verdicts that the log last told, by job id (first with ALL_COMPLETE);
    `notices`: like `outbox`, of notifications.jsonl;
    `waiting`: the evals that are UNSUBMITTED; `waiting_for`: why, as the log was last told; `on_their_way`: how many
    submissions have no answer of Slurm's on record yet; `refused`: the evals whose last submission Slurm refused,
    also those with earlier jobs; `dropped`: when the user dropped which evals.
    """

    experiment: str
    schema: int = SCHEMA
    generation: int = 0
    sidecar: MonitorJob | None = None
    completion: MonitorJob | None = None
    evals: dict[str, Eval] = field(default_factory=dict)
    outage: Outage | None = None
    outbox: Outbox | None = None
    notices: Outbox | None = None
    notified: Notified = field(default_factory=Notified)
    reported: dict[str, str] = field(default_factory=dict)
    recovered: Recovered | None = None
    completions: int = 0
    told: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    waiting_for: str | None = None
    on_their_way: int = 0
    refused: dict[str, Refusal] = field(default_factory=dict)
    dropped: dict[str, float] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names of all evals, those included that were never submitted."""
        return list(dict.fromkeys([*self.evals, *self.waiting, *self.refused, *self.dropped]))

    @property
    def counted(self) -> list[Eval]:
        """The evals that were submitted and are not dropped."""
        return [ev for ev in self.evals.values() if ev.name not in self.dropped]


@dataclass(frozen=True, slots=True)
class QueueAnswer:
    """squeue's answer: all the user's jobs at `asked_at`. A failed call gives no fact."""

    asked_at: float
    rows: Sequence[SqueueRow]


@dataclass(frozen=True, slots=True)
class AccountAnswer:
    """sacct's answer about `asked` ids; `disabled`: this cluster keeps no accounting; `user`: whose rows count."""

    asked_at: float
    asked: frozenset[JobId]
    jobs: Sequence[SacctJob]
    disabled: bool = False
    user: str | None = None


@dataclass(frozen=True, slots=True)
class SelfReport:
    """One job's own report: its name, where it wrote, and its attempts. `version` tells its file's contents apart.

    `name` is the eval's, None if it was not given one; `job_name` is Slurm's.
    """

    source: str
    version: str
    job_id: JobId
    name: str | None
    output_dir: str | None
    attempts: Sequence[JobReport]
    tokens: frozenset[str] = frozenset()
    job_name: str | None = None


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figures of one attempt and what it left behind, captured after it ended.

    `restart`: of an attempt that only its report knows, as in its record; `is_later`: of one that was measured before,
    what it left was looked for again.
    """

    name: str
    job_id: JobId
    submitted_at: float | None
    figures: Figures
    evidence: Evidence | None = None
    restart: int | None = None
    is_later: bool = False


@dataclass(frozen=True, slots=True)
class Transition:
    """An eval went from one state to the next; `at`: when, if known; `witness`: who reported an end."""

    name: str
    job_id: JobId
    previous: State
    current: State
    at: float | None
    attempt: Attempt | None
    witness: ReportedBy | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of an ended attempt are known, or known to be unavailable."""

    name: str
    job_id: JobId
    attempt: Attempt


Event = Transition | Measured
