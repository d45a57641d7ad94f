"""Creates experiments of any size for the page: a summary of many evals, and their GPUs' samples on disk."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from evalmon_agent.evidence.diagnosis.causes import CAUSES, Diagnosis
from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.settings import Settings
from evalmon_agent.summary.build import VERDICTS
from evalmon_agent.summary.cost import cost_of_experiment
from evalmon_agent.summary.failures import by_cause, by_node
from evalmon_agent.summary.records import AttemptSummary, Cost, EvalSummary, Summary, Witnesses
from evalmon_agent.tracking.verdict import Verdict
from evalmon_agent.words.csv_columns import GpuColumn
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State

START = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
TASKS = ("capitalization", "gsm8k", "translation_de_en", "summaries")
GIB = 1024**3
PRICED = Settings(gpu_hour_price=2.5)
FAILURES: tuple[tuple[str, State, Verdict, str | None], ...] = (
    ("time-limit", State.TIMEOUT, "failed", None),
    (
        "cuda-out-of-memory",
        State.FAILED,
        "failed",
        "torch.OutOfMemoryError: CUDA out of memory.",
    ),
    ("missing-module", State.FAILED, "failed", "ModuleNotFoundError: No module named 'flash_attn'"),
    ("eval-error", State.COMPLETED, "suspect", "APIStatusError: Error code: 503 - engine overloaded"),
)


def study(count: int, root: str = "/exp", *, hours: float = 1.0, failing: int = 5) -> Summary:
    """`count` evals of some runs, tasks and epochs; each `failing`-th failed, or none (0)."""
    per_run = len(TASKS) * 3
    evals = []
    for at in range(count):
        run, task, epoch = f"run{at // per_run:02}_lr{at // per_run + 1}e-5", TASKS[at // 3 % len(TASKS)], at % 3
        ending = FAILURES[at // failing % len(FAILURES)] if failing and at % failing == failing - 1 else None
        evals.append(_eval(at, f"{run}/{task}/epoch{epoch}", root, hours=hours, ending=ending))
    return summary_of(evals, root)


def summary_of(evals: list[EvalSummary], root: str = "/exp", *, complete: bool = True) -> Summary:
    counts, verdicts = dict[str, int](), {str(verdict): 0 for verdict in VERDICTS}
    for ev in evals:
        counts[ev.state] = counts.get(ev.state, 0) + 1
        verdicts[ev.verdict] += 1
    ended = max((ev.ended or "" for ev in evals), default="")
    total_s = (datetime.fromisoformat(ended) - START).total_seconds() if ended else None
    return Summary(
        experiment=root,
        generated_at=ended or START.isoformat(),
        complete=complete,
        total_time_s=total_s,
        counts=counts,
        verdicts=verdicts,
        evals=evals,
        cost=cost_of_experiment(evals, PRICED),
        causes=by_cause(evals),
        nodes=by_node(evals),
    )


def _eval(
    at: int, name: str, root: str, *, hours: float, ending: tuple[str, State, Verdict, str | None] | None
) -> EvalSummary:
    queue_s = 30.0 + 97 * (at % 40)
    cause, state, verdict, evidence = ending or (None, State.COMPLETED, "ok", None)
    limit_s = hours * 3600 * 1.5
    elapsed_s = limit_s if state is State.TIMEOUT else hours * 3600 * (1 - 0.4 * ((at * 7) % 10) / 10)
    started = START + timedelta(seconds=queue_s)
    ended = started + timedelta(seconds=elapsed_s)
    output = f"{root}/{name}"
    value = 0.5 + 0.3 * math.sin(at)
    status = "success" if verdict == "ok" else "error"
    result = EvalResult(
        kind="inspect-ai",
        task=name.split("/")[1],
        model="hf/local",
        status=status,
        samples_completed=100 if verdict == "ok" else 61,
        samples_total=100,
        scores={"match/accuracy": value, "match/stderr": 0.05} if verdict == "ok" else {},
        log=f"{output}/logs/2026-11-26.eval",
    )
    attempt = AttemptSummary(
        job_id=JobId(str(1000 + at)),
        state=state,
        verdict=verdict,
        submitted=START.isoformat(),
        started=started.isoformat(),
        ended=ended.isoformat(),
        elapsed_s=elapsed_s,
        exit_code=0,
        signal=None,
        node_list=f"node{at % 4}",
        gpus={"gpu": 2},
        gpu_hours=elapsed_s / 1800,
    )
    return EvalSummary(
        name=name,
        job_id=attempt.job_id,
        attempts=[attempt],
        state=state,
        verdict=verdict,
        exit_code=0 if state is State.COMPLETED else 1,
        submitted=attempt.submitted,
        started=attempt.started,
        ended=attempt.ended,
        queue_s=queue_s,
        elapsed_s=elapsed_s,
        time_limit_s=limit_s,
        gpu=GpuFigures(
            count=2,
            samples=120,
            utilization_mean_pct=61.0,
            utilization_p95_pct=97.0,
            utilization_max_pct=100.0,
            idle_fraction=0.1,
            memory_peak_bytes=120 * GIB,
            memory_total_bytes=160 * GIB,
            power_mean_w=700.0,
            energy_j=700.0 * elapsed_s,
        ),
        result=result,
        results=[result],
        diagnosis=None
        if cause is None
        else Diagnosis(cause, evidence, CAUSES[cause].advice.format(module="flash_attn")),
        witnesses=Witnesses(slurm=str(state), self="0", agree=True),
        output_dir=output,
        log=f"{output}/slurm-{1000 + at}.out",
        nodes=[f"node{at % 4}"],
        cost=Cost(
            gpu_hours=elapsed_s / 1800, cpu_hours=elapsed_s / 450, energy_j=700 * elapsed_s, money=elapsed_s / 720
        ),
        advice=["Time: took 00:38:24 of 01:30:00; --time=00:50:00 would do, and start sooner"]
        if elapsed_s < 2400
        else [],
    )


def write_samples(ev: EvalSummary, *, interval_s: float = 30.0, gpus: int = 2) -> None:
    """The eval's gpu_metrics.csv: some load, some idle time, and in the middle a gap of five minutes."""
    assert ev.output_dir is not None
    assert ev.started is not None
    assert ev.elapsed_s is not None
    start = datetime.fromisoformat(ev.started)
    lines = [GpuColumn.first_line()]
    ticks = int(ev.elapsed_s / interval_s) + 1
    for n in range(ticks):
        at_s = n * interval_s
        if abs(at_s - ev.elapsed_s / 2) < 150:
            continue
        for gpu in range(gpus):
            load = 0 if n < 3 else 75 + 25 * math.sin(n / 5 + gpu) if n < 0.8 * ticks else 4 * (n % 3)
            lines.append(gpu_line(start + timedelta(seconds=at_s), gpu, load_pct=load, used_mib=min(2000 * n, 61_000)))
    Path(ev.output_dir).mkdir(parents=True, exist_ok=True)
    Path(ev.output_dir, "gpu_metrics.csv").write_bytes(b"".join(lines))


def gpu_line(at: datetime, gpu: int, *, load_pct: float | None, used_mib: int | None) -> bytes:
    values = {
        GpuColumn.TIMESTAMP: at.astimezone().strftime("%Y/%m/%d %H:%M:%S.%f")[:-3],
        GpuColumn.UTILIZATION_PCT: None if load_pct is None else int(load_pct),
        GpuColumn.MEMORY_UTILIZATION_PCT: 20,
        GpuColumn.MEMORY_USED_MIB: used_mib,
        GpuColumn.MEMORY_TOTAL_MIB: 81920,
        GpuColumn.POWER_W: 350.0,
        GpuColumn.TEMPERATURE_C: 50,
        GpuColumn.INDEX: str(gpu),
        GpuColumn.UUID: f"GPU-{gpu}a5b-11",
        GpuColumn.TIMESTAMP_UNIX_S: at.timestamp(),
    }
    return GpuColumn.line(values)


def on_disk(directory: Path, count: int, *, hours: float = 1.0, interval_s: float = 30.0) -> tuple[Experiment, Summary]:
    """An experiment with summary.json and the samples of each eval."""
    root = directory / "study"
    root.mkdir(parents=True)
    experiment = Experiment.at(str(root))
    experiment.prepare(group_readable=False)
    summary = study(count, str(root), hours=hours)
    for ev in summary.evals:
        write_samples(ev, interval_s=interval_s)
    save(experiment, summary)
    return experiment, summary


def save(experiment: Experiment, summary: Summary) -> None:
    Path(experiment.summary_json).write_bytes(msgspec.json.encode(summary))
