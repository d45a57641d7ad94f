"""Defines the records of summary.json (docs/files.md). Times are ISO 8601 with offset; unknown is null."""

from __future__ import annotations

from msgspec import Struct

from evalmon_agent.evidence.diagnosis.causes import Diagnosis
from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.tracking.records import AlertKind, Foreign
from evalmon_agent.tracking.verdict import Verdict
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State

SCHEMA = 1


class AttemptSummary(Struct, frozen=True, kw_only=True, gc=False):
    """One incarnation of a job.

    `verdict`: null while it is not over, and where Slurm requeued it. `cause`: why it failed; null: it did not, or that
    is not known yet. `cpus`, `gpus`: what Slurm allocated; `gpus` by type, `gpu` without one.
    """

    job_id: JobId
    state: State | None
    verdict: Verdict | None = None
    submitted: str | None
    started: str | None
    ended: str | None
    elapsed_s: float | None
    exit_code: int | None
    signal: int | None
    node_list: str | None
    cpus: int | None = None
    gpus: dict[str, int] | None = None
    gpu_hours: float | None = None
    cause: str | None = None


class Cost(Struct, frozen=True, kw_only=True, gc=False):
    """What an eval took, all attempts together: hours are what was allocated times how long.

    A figure is null if it is unknown for one of the attempts. `..._per_sample`: by the samples that were completed.
    """

    gpu_hours: float | None = None
    cpu_hours: float | None = None
    energy_j: float | None = None
    money: float | None = None
    gpu_hours_per_sample: float | None = None
    money_per_sample: float | None = None


NO_COST = Cost(gpu_hours=0.0, cpu_hours=0.0, energy_j=0.0, money=0.0)


class ExperimentCost(Struct, frozen=True, kw_only=True):
    """The sums over all evals; null if no eval's is known.

    `gpu_hours_of_failures`: of attempts without a result to use. `evals_left_out`: by figure, how many evals it leaves
    out because theirs is unknown; `unpriced`: the GPU types without a price.
    """

    gpu_hours: float | None = None
    gpu_hours_of_failures: float | None = None
    cpu_hours: float | None = None
    energy_j: float | None = None
    money: float | None = None
    currency: str | None = None
    evals_left_out: dict[str, int] = {}
    unpriced: list[str] = []


class CauseSummary(Struct, frozen=True, kw_only=True):
    """Failures, suspects and failed samples of one cause with the same evidence, but for paths, numbers and ids.

    `samples`: how many samples failed by it; `gpu_hours`, `money`: what these evals, or these samples of them, cost.
    """

    cause: str
    evidence: str | None
    advice: str | None
    evals: list[str]
    samples: int
    gpu_hours: float | None
    money: float | None


class NodeSummary(Struct, frozen=True, kw_only=True):
    """How many attempts ran on a node and ended, how many of these failed, and by which causes, most frequent first.

    `suspicious`: failures that may be the node's cluster there beyond chance.
    """

    node: str
    ran: int
    failed: int
    causes: list[str]
    suspicious: bool


class Witnesses(Struct, frozen=True, gc=False):
    """What Slurm and the job itself say of the end; `agree` is null where one of them says nothing."""

    slurm: str | None
    self: str | None
    agree: bool | None


class EvalSummary(Struct, frozen=True, kw_only=True, gc=False):
    """One eval. `job_id` is null until it is submitted for the first time; `result` is the worst of `results`.

    `refusal`: Slurm's words, verbatim, if it refused the eval's last submission.
    """

    name: str
    job_id: JobId | None
    attempts: list[AttemptSummary]
    state: State
    verdict: Verdict
    exit_code: int | None = None
    signal: int | None = None
    submitted: str | None = None
    started: str | None = None
    ended: str | None = None
    queue_s: float | None = None
    elapsed_s: float | None = None
    time_limit_s: float | None = None
    time_efficiency_pct: float | None = None
    cpu_efficiency_pct: float | None = None
    memory_used_bytes: int | None = None
    memory_requested_bytes: int | None = None
    memory_efficiency_pct: float | None = None
    metrics_source: str | None = None
    gpu: GpuFigures | None = None
    result: EvalResult | None = None
    results: list[EvalResult] = []
    result_unknown: str | None = None
    diagnosis: Diagnosis | None = None
    advice: list[str] = []
    witnesses: Witnesses = Witnesses(None, None, None)
    nodes: list[str] = []
    output_dir: str | None = None
    log: str | None = None
    cost: Cost = NO_COST
    foreign: list[Foreign] = []
    refusal: str | None = None


class AlertSummary(Struct, frozen=True):
    """What a person can act on. `name`: the eval's; `cleared_at`: null while it lasts."""

    at: str | None
    kind: AlertKind
    name: str | None
    text: str
    advice: str | None
    cleared_at: str | None


class Summary(Struct, frozen=True, kw_only=True):
    """The experiment: what is known so far, or, with `complete`, for good."""

    schema: int = SCHEMA
    experiment: str
    generated_at: str
    complete: bool
    total_time_s: float | None
    counts: dict[str, int]
    verdicts: dict[str, int]
    cost: ExperimentCost
    causes: list[CauseSummary]
    nodes: list[NodeSummary]
    alerts: list[AlertSummary] = []
    evals: list[EvalSummary]
