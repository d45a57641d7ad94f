"""summary.json as records (contract, section 8). Times are ISO 8601 with offset; unknown is null."""

from __future__ import annotations

from msgspec import Struct

from evalmon_agent.evidence.diagnosis.record import Diagnosis
from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.tracking.verdict import Verdict
from evalmon_agent.words.states import State

SCHEMA = 1


class AttemptSummary(Struct, frozen=True, kw_only=True):
    """One incarnation of a job."""

    job_id: str
    state: State | None
    submitted: str | None
    started: str | None
    ended: str | None
    elapsed_s: float | None
    exit_code: int | None
    signal: int | None
    node_list: str | None


class Witnesses(Struct, frozen=True):
    """What Slurm and the job itself say of the end; `agree` is null where one of them says nothing."""

    slurm: str | None
    self: str | None
    agree: bool | None


class EvalSummary(Struct, frozen=True, kw_only=True):
    """One eval."""

    name: str
    job_id: str
    attempts: list[AttemptSummary]
    state: State
    verdict: Verdict
    exit_code: int | None
    signal: int | None
    submitted: str | None
    started: str | None
    ended: str | None
    queue_s: float | None
    elapsed_s: float | None
    time_limit_s: float | None
    time_efficiency_pct: float | None
    cpu_efficiency_pct: float | None
    memory_used_bytes: int | None
    memory_requested_bytes: int | None
    memory_efficiency_pct: float | None
    metrics_source: str | None
    gpu: GpuFigures | None
    result: EvalResult | None
    diagnosis: Diagnosis | None
    advice: list[str]
    witnesses: Witnesses
    output_dir: str | None
    log: str | None


class Summary(Struct, frozen=True, kw_only=True):
    """The experiment: what is known so far, or, with `complete`, for good."""

    schema: int = SCHEMA
    experiment: str
    generated_at: str
    complete: bool
    total_time_s: float | None
    counts: dict[str, int]
    verdicts: dict[str, int]
    evals: list[EvalSummary]
