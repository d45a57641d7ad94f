"""Tests the efficiency figures: seff's formulas, and unknown where data is missing."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.figures import Figures, from_sacct, from_seff, from_self
from evalmon_agent.slurm import sacct, seff
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State
from vectors import Sample, sacct_rows, sacct_samples, seff_samples

MB = 1024**2
GB = 1024**3

JOB = sacct.SacctJob(
    job_id=JobId("123"),
    user="u",
    state=State.COMPLETED,
    state_word="COMPLETED",
    exit_code=0,
    signal=None,
    submitted_at=1_700_000_000,
    started_at=1_700_000_060,
    ended_at=1_700_000_352,
    elapsed_s=292,
    time_limit_s=1800,
    cpus=4,
    gpus={"gpu": 1},
    total_cpu_s=584,
    memory_used_bytes=16 * GB,
    memory_requested_bytes=64 * GB,
    energy_j=None,
    node_list="n1",
    ran=True,
    name="eval-a",
)
REPORT = seff.SeffReport(
    state="COMPLETED",
    cpu_utilized_s=584,
    cpu_efficiency_pct=50.0,
    core_walltime_s=1168,
    wall_clock_s=292,
    mem_utilized_bytes=16 * GB,
    mem_efficiency_pct=25.0,
    mem_requested_bytes=64 * GB,
)


def test_seff_and_sacct_give_the_same_figures_for_one_job() -> None:
    expected = Figures(
        elapsed_s=292,
        time_limit_s=1800,
        time_efficiency_pct=16.22,
        cpu_efficiency_pct=50.0,
        memory_used_bytes=16 * GB,
        memory_requested_bytes=64 * GB,
        memory_efficiency_pct=25.0,
        source="sacct",
    )
    assert expected == from_sacct(JOB)
    assert dataclasses.replace(expected, source="seff") == from_seff(REPORT, time_limit_s=1800)


def test_without_accounting_only_times_are_known() -> None:
    expected = Figures(elapsed_s=90, time_limit_s=60, time_efficiency_pct=150.0, source="self")
    assert expected == from_self(elapsed_s=90, time_limit_s=60)


def test_eight_tasks_of_one_step_are_added_up_as_by_seff() -> None:
    # The pair of facts/seff.md: both commands of one job, 14.86 GB and 95.1 %.
    printed = "1|1|COMPLETED|60|8||2000Mc||\n1.0|1.0|COMPLETED|60|8|8|2000Mc|1947276K|\n"
    fields = ("JobID", "JobIDRaw", "State", "ElapsedRaw", "AllocCPUS", "NTasks", "ReqMem", "MaxRSS", "JobName")
    figures = from_sacct(sacct.parse(sacct_rows(Sample("", printed, None, list(fields)))).jobs[0])
    expected = (14.86, 95.1)
    assert expected == (
        round((figures.memory_used_bytes or 0) / GB, 2),
        round(figures.memory_efficiency_pct or 0, 1),
    )


@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING, State.SUSPENDED])
def test_zeros_of_a_running_job_are_unknown(state: State) -> None:
    figures = from_sacct(dataclasses.replace(JOB, state=state, total_cpu_s=0.0))
    expected = (None, None, None)
    assert expected == (
        figures.cpu_efficiency_pct,
        figures.memory_used_bytes,
        figures.memory_efficiency_pct,
    )


@pytest.mark.parametrize(("elapsed_s", "expected"), [(29, 0.0), (30, None)])
def test_a_long_job_without_cpu_time_and_memory_was_not_measured(elapsed_s: float, expected: float | None) -> None:
    job = dataclasses.replace(JOB, elapsed_s=elapsed_s, total_cpu_s=0.0, memory_used_bytes=None)
    assert expected == from_sacct(job).cpu_efficiency_pct


def test_a_sleeping_job_used_no_cpu_time() -> None:
    assert from_sacct(dataclasses.replace(JOB, total_cpu_s=0.0)).cpu_efficiency_pct == 0.0


def test_memory_unknown_to_seff_is_unknown_and_never_zero() -> None:
    figures = from_seff(dataclasses.replace(REPORT, mem_utilized_bytes=0, mem_efficiency_pct=0.0), time_limit_s=None)
    expected = (None, None, None)
    assert expected == (
        figures.memory_used_bytes,
        figures.memory_efficiency_pct,
        figures.time_efficiency_pct,
    )


def test_a_limit_printed_by_the_site_is_used_if_there_is_no_other() -> None:
    report = dataclasses.replace(REPORT, time_limit_s=600)
    assert from_seff(report, time_limit_s=None).time_efficiency_pct == 48.67
    assert from_seff(report, time_limit_s=1800).time_efficiency_pct == 16.22


KEYS = {
    "time_eff_pct": "time_efficiency_pct",
    "cpu_eff_pct": "cpu_efficiency_pct",
    "mem_eff_pct": "memory_efficiency_pct",
}


# In samples 03, 05 and 13 from the field, other columns were filled in than the job would have.
SAMPLES = [
    pytest.param(sample, id=sample.name)
    for sample in sacct_samples()
    if isinstance(sample.expected, dict) and "states" not in sample.expected and sample.name[:3] not in ("03_", "05_")
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_the_samples_give_the_expected_figures(sample: Sample) -> None:
    figures = from_sacct(sacct.parse(sacct_rows(sample)).jobs[0])
    for key in KEYS.keys() & sample.expected.keys():
        assert sample.expected[key] == pytest.approx(getattr(figures, KEYS[key]), abs=0.051)


# sacct's table of the job that seff reports; its columns are truncated.
PAIRS = [("table_without_ids", "array_task", 172_800), ("33_ibu_table_4Gc_batch", "03_ibu_bern_array", 259_200)]
PRINTED = {sample.name: sample.printed for sample in (*sacct_samples(), *seff_samples())}


@pytest.mark.parametrize(("table", "report", "time_limit_s"), [pair for pair in PAIRS if pair[0] in PRINTED])
def test_one_job_gives_the_same_figures_by_seff_and_by_sacct(table: str, report: str, time_limit_s: float) -> None:
    head, dashes, *lines = PRINTED[table].splitlines()
    spans = [(end - width, end) for width, end in zip(map(len, dashes.split()), _ends(dashes), strict=True)]
    cells = [[line[start:end].strip() for start, end in spans] for line in (head, *lines)]
    rows = [["JobID", *cells[0]], ["7317012", *cells[1]], ["7317012.batch", *cells[2]]]
    answer = sacct.parse(sacct_rows(Sample("", "\n".join("|".join(row) for row in rows), None)))
    parsed = seff.parse(PRINTED[report])
    assert parsed is not None
    by_sacct, by_seff = from_sacct(answer.jobs[0]), from_seff(parsed, time_limit_s=time_limit_s)
    assert by_seff.memory_used_bytes == pytest.approx(by_sacct.memory_used_bytes, rel=0.001)
    for attribute in (*KEYS.values(), "elapsed_s", "memory_requested_bytes"):
        assert getattr(by_seff, attribute) == pytest.approx(getattr(by_sacct, attribute), abs=0.02)


def _ends(dashes: str) -> list[int]:
    return [at + 1 for at, char in enumerate(dashes) if char == "-" and dashes[at + 1 : at + 2] != "-"]


numbers = st.one_of(st.none(), st.floats(0, 1e15), st.just(0.0))
counts = st.one_of(st.none(), st.integers(0, 10**15))


@given(numbers, numbers, numbers, counts, counts, counts, st.sampled_from([*State, None]))
def test_no_figures_divide_by_zero(
    elapsed_s: float | None,
    limit_s: float | None,
    cpu_s: float | None,
    cpus: int | None,
    used: int | None,
    requested: int | None,
    state: State | None,
) -> None:
    job = dataclasses.replace(
        JOB,
        elapsed_s=elapsed_s,
        time_limit_s=limit_s,
        total_cpu_s=cpu_s,
        cpus=cpus,
        memory_used_bytes=used,
        memory_requested_bytes=requested,
        state=state,
    )
    figures = from_sacct(job)
    assert (figures.time_efficiency_pct is None) == (elapsed_s is None or not limit_s)
    assert (figures.memory_efficiency_pct is None) or bool(requested)
    from_self(elapsed_s=elapsed_s, time_limit_s=limit_s)
