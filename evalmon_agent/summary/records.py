"""Defines the records of summary.json (docs/files.md). Times are ISO 8601 with offset; unknown is null."""

from __future__ import annotations

from msgspec import Struct

from evalmon_agent.evidence.diagnosis.records import Diagnosis
from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.tracking.records import Foreign
from evalmon_agent.tracking.verdict import Verdict
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State

SCHEMA = 1


class AttemptSummary(Struct, frozen=True, kw_only=True):
    """One incarnation of a job; `verdict` is null while it is not over, and where Slurm requeued it."""

    job_id: JobId
    state: State | None
    verdict: Verdict | None
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
    """One eval. `job_id` is null until it is submitted for the first time; `result` is the worst of `results`."""

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
    output_dir: str | None = None
    log: str | None = None
    foreign: list[Foreign] = []


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
