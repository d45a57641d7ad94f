"""Builds evals of each kind and their summary, in one time zone."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec.structs import replace

from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.evidence.result import EvalLog
from evalmon_agent.figures import Figures
from evalmon_agent.settings import Settings
from evalmon_agent.summary.build import build
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.tracking.records import Evidence, Measurement, MonitorJob
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State
from tracking.rows import (
    LOST_AFTER_S,
    NAME,
    T,
    Told,
    account,
    accounts,
    launcher,
    queue,
    registered,
    report,
    reported,
    row,
)

GPU = GpuFigures(
    count=2,
    samples=9,
    utilization_mean_pct=87.4,
    utilization_p95_pct=99.0,
    utilization_max_pct=100.0,
    idle_fraction=0.1,
    memory_peak_bytes=60 * 1024**3,
    memory_total_bytes=160 * 1024**3,
    power_mean_w=500.5,
    energy_j=146_146.0,
    samples_expected=10,
    below_5_pct_fraction=0.15,
    longest_idle_s=30.0,
    first_use_s=31.5,
    unused_count=0,
    near_power_cap_fraction=0.5,
    throttled_fraction=0.0,
    sm_activity_mean_pct=61.25,
)
LOG = EvalLog(
    path="/exp/logs/a.eval",
    kind="inspect-ai",
    task="capitalization",
    model="hf/local",
    model_args={"model_path": "/models/m"},
    status="success",
    samples_completed=10,
    samples_total=10,
    samples_limited=0,
    samples_failed=0,
    scores={"match/accuracy": 0.5},
    created=datetime.fromtimestamp(T + 11, tz=UTC),
)
SETTINGS = Settings(lost_after=LOST_AFTER_S)
NOTHING_LEFT = Evidence()
FIGURES = Figures(292.0, 1800.0, 16.22, 12.5, 32 * 1024**3, 64 * 1024**3, 50.0, "seff")


def summary_of(found: Told, *, now: float = 1000.0, settings: Settings = SETTINGS) -> Summary:
    return build(found.state, now=T + now, settings=settings)


def only(found: Told, *, now: float = 1000.0) -> EvalSummary:
    [ev] = summary_of(found, now=now).evals
    return ev


def measured(
    figures: Figures = FIGURES, evidence: Evidence = NOTHING_LEFT, *, name: str = NAME, job_id: str = "123"
) -> Facts:
    return Facts(measurements=[Measurement((name, JobId(job_id), T + 1, None), figures, evidence)])


def left(log: EvalLog = LOG, *, gpu: GpuFigures | None = None, output: str | None = None) -> Evidence:
    """An attempt's own log: the job's output names it."""
    return Evidence(gpu, logs=[log], printed=[log.path], log=output)


def finished() -> Told:
    """One successful eval with everything about it known."""
    found = Told(Facts(registrations=[registered()]), report(reported(start=6, end=297, exit_code=0)))
    found.take(queue(300, row(State.COMPLETED, start=5, end=297)))
    found.take(accounts(300, account(State.COMPLETED, start=5, end=297)))
    found.take(measured(evidence=left(gpu=GPU, output="/exp/slurm-123.out")))
    found.state.completion = MonitorJob(JobId("9"), MonitorJob.COMPLETE)
    return found


def mixed() -> Told:
    """Evals of each verdict, one with a hostile name."""
    hostile = "r|<b>*x*</b>\n| forged | row |/[a](b)_c_"
    names = [NAME, "r/failed/epoch0", "r/oom/epoch0", "r/silent/epoch0", "r/killed", "r/array[3]", hostile]
    jobs = ["123", "124", "125", "126", "127", "128_3", "129"]
    tokens = [f"t{job}" for job in jobs]
    known = [registered(n, j, token=t) for n, j, t in zip(names, jobs, tokens, strict=True)]
    found = Told(Facts(registrations=known))
    rows = [
        row(state, job_id=job, start=5, end=end, command=launcher(token))
        for job, token, state, end in zip(
            jobs,
            tokens,
            [
                State.COMPLETED,
                State.FAILED,
                State.OUT_OF_MEMORY,
                State.COMPLETED,
                State.TIMEOUT,
                State.RUNNING,
                State.COMPLETED,
            ],
            [297, 100, 200, 50, 1805, None, 60],
            strict=True,
        )
    ]
    found.take(queue(1810, *rows))
    found.take(report(reported(start=6, end=99, exit_code=3), job_id="124", name=names[1]))
    found.take(report(reported(start=6, end=199, exit_code=0), job_id="125", name=names[2]))
    found.take(report(reported(start=6, end=1804, signal=15), job_id="127", name=names[4]))
    failed = EvalLog(
        path="/exp/logs/b.eval",
        created=LOG.created,
        status="error",
        samples_completed=3,
        samples_total=10,
        error="Boom: `x`\n| y |" + "z" * 300,
    )
    found.take(measured(evidence=left(gpu=GPU, output="/exp/slurm-123.out")))
    found.take(measured(Figures(95.0, 1800.0), left(failed, output="/exp/o_1.out"), name=names[1], job_id="124"))
    of_125 = left(replace(LOG, path="/exp/logs/c.eval"))
    found.take(measured(Figures(), of_125, name=names[2], job_id="125"))
    found.take(measured(Figures(), Evidence(names_framework=True), name=names[3], job_id="126"))
    found.take(measured(Figures(1800.0, 1800.0, 100.0), name=names[4], job_id="127"))
    found.take(measured(Figures(), name=names[6], job_id="129"))
    return found
