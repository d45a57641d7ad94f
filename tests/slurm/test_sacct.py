"""Tests that sacct's rows become attempts with their steps, whatever the names."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm import sacct
from evalmon_agent.slurm.sacct import FIELDS, SacctAnswer, SacctJob, argv, by_id
from evalmon_agent.slurm.scontrol import JobDetails
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import TERMINAL, State
from vectors import Sample, sacct_rows, sacct_samples

MB = 1024**2
D = "\x1f0a1b2c3d"

JOB = {
    "JobID": "123",
    "User": "u",
    "State": "COMPLETED",
    "ExitCode": "0:0",
    "Submit": "1700000000",
    "Start": "1700000060",
    "End": "1700000352",
    "ElapsedRaw": "292",
    "TimelimitRaw": "30",
    "AllocCPUS": "4",
    "NNodes": "1",
    "NTasks": "",
    "TotalCPU": "09:44.000",
    "ReqMem": "64G",
    "MaxRSS": "",
    "AllocTRES": "billing=4,cpu=4,gres/gpu:a100=1,gres/gpu=1,mem=64G,node=1",
    "TRESUsageInTot": "",
    "TRESUsageInMax": "",
    "ConsumedEnergyRaw": "0",
    "NodeList": "n1",
    "JobName": "eval-a",
}
BATCH = JOB | {
    "JobID": "123.batch",
    "User": "",
    "ElapsedRaw": "293",
    "TimelimitRaw": "",
    "NTasks": "1",
    "ReqMem": "",
    "MaxRSS": "2048K",
    "TRESUsageInTot": "cpu=00:09:44,fs/disk=1,mem=4096K,pages=0",
    "JobName": "batch",
}
NEVER_RAN = {
    "Start": "1700000100",
    "End": "1700000100",
    "ElapsedRaw": "0",
    "AllocTRES": "",
    "TotalCPU": "00:00:00",
    "NodeList": "None assigned",
}


def text(*rows: dict[str, str]) -> str:
    return "".join("".join(row[field] + D for field in FIELDS) + "\n" for row in rows)


def parse(printed: str) -> SacctAnswer:
    return sacct.parse(sacct.rows(printed, FIELDS, delimiter=D))


def only_job(*rows: dict[str, str]) -> SacctJob:
    answer = parse(text(*rows))
    assert answer.bad_rows == 0
    assert len(answer.jobs) == 1
    return answer.jobs[0]


def test_one_call_asks_about_all_attempts_of_all_jobs() -> None:
    expected = ["sacct", "-n", "-p", "-D", f"--delimiter={D}", "-j", "123,124_5,126+1", "-o", ",".join(FIELDS)]
    assert expected == argv(FIELDS, by_id([JobId("123"), JobId("124_5"), JobId("126+1")]), delimiter=D)


def test_an_attempt_is_parsed_completely() -> None:
    expected = SacctJob(
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
        gpus={"a100": 1},
        total_cpu_s=584,
        memory_used_bytes=4 * MB,
        memory_requested_bytes=64 * 1024 * MB,
        energy_j=None,
        node_list="n1",
        ran=True,
        name="eval-a",
    )
    assert expected == only_job(JOB, BATCH)


@pytest.mark.survives("F18")
def test_the_attempts_of_a_requeued_job_are_kept_apart_with_their_own_steps() -> None:
    first = JOB | {"State": "REQUEUED", "Submit": "1699990000"}
    answer = parse(text(first, BATCH | {"TRESUsageInTot": "mem=8192K"}, JOB, BATCH))
    assert [(job.state, job.submitted_at, job.memory_used_bytes) for job in answer.jobs] == [
        (State.REQUEUED, 1_699_990_000, 8 * MB),
        (State.COMPLETED, 1_700_000_000, 4 * MB),
    ]


def test_the_times_of_an_attempt_requeued_at_once_are_its_steps() -> None:
    # As 22.05 printed it: the job's row without start and time, the step with both.
    job = only_job(JOB | {"State": "REQUEUED", "Start": "None", "ElapsedRaw": "0"}, BATCH | {"ElapsedRaw": "2"})
    expected = (1_700_000_060, 2, True)
    assert expected == (job.started_at, job.elapsed_s, job.ran)


def test_state_and_elapsed_time_come_from_the_jobs_row() -> None:
    job = only_job(JOB | {"State": "TIMEOUT"}, BATCH | {"State": "CANCELLED", "ElapsedRaw": "322"})
    expected = (State.TIMEOUT, 292)
    assert expected == (job.state, job.elapsed_s)


@pytest.mark.survives("F18")
def test_a_job_cancelled_in_the_queue_never_ran() -> None:
    job = only_job(JOB | NEVER_RAN | {"State": "CANCELLED by 1001"})
    expected = (State.CANCELLED, False, None, None)
    assert expected == (job.state, job.ran, job.started_at, job.exit_code)
    expected = (None, None, None)
    assert expected == (job.node_list, job.total_cpu_s, job.memory_used_bytes)
    expected = (1_700_000_100, 0)
    assert expected == (job.ended_at, job.elapsed_s)


def test_a_job_that_failed_within_its_first_second_ran() -> None:
    assert only_job(JOB | {"State": "FAILED", "ElapsedRaw": "0"}).ran


@pytest.mark.parametrize(("state", "ran"), [("PENDING", False), ("RUNNING", True), ("SUSPENDED", True)])
def test_a_running_job_has_neither_end_nor_exit_code(state: str, ran: bool) -> None:
    job = only_job(JOB | {"State": state})
    assert (ran, None, None, None) == (job.ran, job.ended_at, job.exit_code, job.signal)


@pytest.mark.parametrize(
    ("text_", "expected"),
    [("0:0", (0, None)), ("1:0", (1, None)), ("0:9", (0, 9)), ("0:125", (0, 125)), ("", (None, None))],
)
def test_exit_code_and_signal_are_separated(text_: str, expected: tuple[int | None, int | None]) -> None:
    job = only_job(JOB | {"State": "FAILED", "ExitCode": text_})
    assert expected == (job.exit_code, job.signal)


@pytest.mark.parametrize("limit", ["UNLIMITED", "Partition_Limit", ""])
def test_an_unlimited_time_limit_is_unknown(limit: str) -> None:
    assert None is only_job(JOB | {"TimelimitRaw": limit}).time_limit_s


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"TRESUsageInTot": "", "MaxRSS": "1947276K", "NTasks": "8"}, 8 * 1_947_276 * 1024),
        ({"TRESUsageInTot": "", "MaxRSS": "1K", "NTasks": ""}, 1024),
        ({"TRESUsageInTot": "", "MaxRSS": "", "TRESUsageInMax": "mem=2K", "NTasks": "3"}, 6144),
        ({"TRESUsageInTot": "mem=0", "MaxRSS": "0", "NTasks": "1"}, None),
    ],
)
def test_used_memory_is_that_of_all_tasks_and_zero_is_unknown(step: dict[str, str], expected: int | None) -> None:
    assert expected == only_job(JOB, BATCH | step).memory_used_bytes


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"AllocTRES": "", "ReqMem": "4Gc"}, 16 * 1024 * MB),
        ({"AllocTRES": "cpu=4,mem=0", "ReqMem": "4000Mn", "NNodes": "2"}, 8000 * MB),
        ({"AllocTRES": "", "ReqMem": "40G"}, 40 * 1024 * MB),
        ({"AllocTRES": "mem=62500G", "ReqMem": "1G"}, 62_500 * 1024 * MB),
        ({"AllocTRES": "", "ReqMem": "0n"}, None),
        ({"AllocTRES": "", "ReqMem": "4Gc", "AllocCPUS": ""}, None),
    ],
)
def test_requested_memory_is_the_allocated_or_else_the_requested(changed: dict[str, str], expected: int | None) -> None:
    assert expected == only_job(JOB | changed).memory_requested_bytes


@pytest.mark.parametrize(
    ("tres", "expected"),
    [
        ("gres/gpu:a100=1,gres/gpu=1", {"a100": 1}),
        ("gres/gpu:a100=2,gres/gpu:h100=1", {"a100": 2, "h100": 1}),
        ("gres/gpu=3,gres/gpu:a100=2", {"a100": 2, "gpu": 1}),
        ("cpu=4,gres/gpu=2", {"gpu": 2}),
        ("gres/gpu:1g.10gb=2,gres/gpu=2", {"1g.10gb": 2}),
        ("cpu=1,gres/shard=4", {"shard": 4}),
        ("gres/gpumem=40G,gres/gpuutil=90", {}),
        ("cpu=1,gres/gpu=0", {}),
        ("", None),
    ],
)
def test_a_gpu_is_counted_once_under_its_type(tres: str, expected: dict[str, int] | None) -> None:
    assert expected == only_job(JOB | {"AllocTRES": tres}).gpus


@pytest.mark.parametrize(
    ("job", "steps", "expected"),
    [
        ("0", ["0", "0"], None),
        ("", [""], None),
        ("700", [], 700.0),
        # The batch and extern steps both measured the whole node.
        ("1900", ["900", "1000"], 1000.0),
        ("18446744073709551614", ["18446744073709551615"], None),
    ],
)
def test_the_energy_is_that_of_the_step_with_the_most(job: str, steps: list[str], expected: float | None) -> None:
    rows = [BATCH | {"ConsumedEnergyRaw": energy} for energy in steps]
    assert expected == only_job(JOB | {"ConsumedEnergyRaw": job}, *rows).energy_j


def test_a_row_of_pending_tasks_is_one_attempt_each() -> None:
    pending = JOB | NEVER_RAN | {"JobID": "9_[1-2,7%2]", "State": "PENDING", "Start": "Unknown"}
    answer = parse(text(JOB, BATCH, pending))
    assert [str(job.job_id) for job in answer.jobs] == ["123", "9_1", "9_2", "9_7"]
    assert {State.PENDING} == {job.state for job in answer.jobs[1:]}


def test_a_truncated_range_of_pending_tasks_counts_as_bad() -> None:
    assert SacctAnswer((), 1) == parse(text(JOB | {"JobID": "9_[1,3,...]", "State": "PENDING"}))


@pytest.mark.survives("F13")
@pytest.mark.parametrize("name", ["a\nb", "a\x1fb", "a\nb\x1fc|d", "x\n999", "x\n999.batch\ny", "\ufffd", "", "a|b"])
def test_a_name_may_contain_anything(name: str) -> None:
    answer = parse(text(JOB | {"JobName": name}, BATCH, JOB | {"JobID": "124"}))
    assert [(str(job.job_id), job.name) for job in answer.jobs] == [("123", name), ("124", "eval-a")]


@pytest.mark.survives("F13")
def test_a_torn_row_is_counted_and_the_others_are_parsed() -> None:
    answer = parse(text(JOB, BATCH) + text(JOB | {"JobID": "124"})[:40])
    expected = (1, 1)
    assert expected == (len(answer.jobs), answer.bad_rows)


def test_a_step_without_its_jobs_row_is_counted() -> None:
    assert SacctAnswer((), 1) == parse(text(BATCH))


@pytest.mark.survives("F13")
def test_what_a_wrapper_prints_before_a_row_costs_nothing() -> None:
    assert parse(text(JOB)) == parse("module loaded\n" + text(JOB))


def test_an_empty_answer_has_no_rows() -> None:
    assert SacctAnswer((), 0) == parse("")


SAMPLES = [pytest.param(sample, id=sample.name) for sample in sacct_samples()]
ATTRIBUTES = {
    "state": "state",
    "elapsed_s": "elapsed_s",
    "time_limit_s": "time_limit_s",
    "cpus": "cpus",
    "mem_used_bytes": "memory_used_bytes",
    "mem_requested_bytes": "memory_requested_bytes",
}


@pytest.mark.survives("F13")
@pytest.mark.parametrize("sample", SAMPLES)
def test_the_samples_are_parsed_as_expected(sample: Sample) -> None:
    answer = sacct.parse(sacct_rows(sample))
    assert all(job.state is None or job.state_word for job in answer.jobs)
    if sample.expected is None:
        return
    values = sample.expected if isinstance(sample.expected, list) else [sample.expected]
    if "states" in sample.expected:
        values = [{"job_id": job_id, "state": state} for job_id, state in sample.expected["states"].items()]
    assert [value["job_id"] for value in values] == [str(job.job_id) for job in answer.jobs]
    for value, job in zip(values, answer.jobs, strict=True):
        for key in ATTRIBUTES.keys() & value.keys():
            assert value[key] == getattr(job, ATTRIBUTES[key]), key
        if "gpu_count" in value:
            assert value["gpu_count"] == (sum((job.gpus or {}).values()) or None)


row_texts = st.sampled_from([text(JOB), text(BATCH), text(JOB | {"JobID": "9_[1-3]"}), "junk\n", f"{D}\n", "123\n"])


@given(st.lists(row_texts, max_size=12))
def test_rows_in_any_order_never_raise(rows: list[str]) -> None:
    for job in parse("".join(rows)).jobs:
        assert job.state in {State.COMPLETED, None}


@pytest.mark.survives("F13")
@given(st.text(alphabet="|\n.123_[]-+COMPLETED", max_size=400))
def test_parsing_never_raises_or_invents_an_ended_job(text_: str) -> None:
    for job in sacct.parse(sacct.rows(text_, ("JobID", "State", "JobName"), delimiter="|")).jobs:
        assert job.state not in TERMINAL or job.state_word.strip() in text_


@given(st.lists(st.integers(1, 10**6), unique=True, max_size=20))
def test_each_printed_job_is_parsed_once(numbers: list[int]) -> None:
    rows = [JOB | {"JobID": str(number)} for number in numbers]
    assert list(map(str, numbers)) == [job.job_id for job in parse(text(*rows)).jobs]


@pytest.mark.survives("F13")
@pytest.mark.parametrize("piece", ["\n", D, "x\n", f"{D}\n", f"123{D}\n", text(BATCH)[:60]])
def test_a_large_answer_of_garbage_takes_linear_time(piece: str) -> None:
    started = time.monotonic()
    parse(text(JOB) + piece * 300_000)
    assert time.monotonic() - started < 20


@pytest.mark.survives("F13")
def test_short_rows_of_pending_tasks_cannot_exhaust_memory() -> None:
    row = text(JOB | {"JobID": "9_[0-9999]", "State": "PENDING"})
    answer = parse(row * 11)
    expected = (100_000, 1)
    assert expected == (len(answer.jobs), answer.bad_rows)


def test_a_final_state_without_an_end_is_an_incomplete_record() -> None:
    ends = [("FAILED", "Unknown"), ("FAILED", "1700000352"), ("RUNNING", "Unknown")]
    answer = parse(text(*(JOB | {"State": state, "End": end} for state, end in ends)))
    assert [job.whole for job in answer.jobs] == [False, True, True]


def test_where_jobs_ran_is_asked_without_steps_and_pending_tasks_are_told_apart() -> None:
    assert argv(sacct.PLACES, by_id(["12", "13"]), delimiter=D)[-1] == "JobID,Submit,Partition,Account,QOS,WorkDir"
    places = sacct.parse_places(
        [
            dict(zip(sacct.PLACES, ("12_[3-4]", "1700000000", "gpu", "lab", "normal", "/d"), strict=True)),
            dict(zip(sacct.PLACES, ("12.batch", "1", "", "", "", "/d"), strict=True)),
            None,
            dict(zip(sacct.PLACES, ("13", "Unknown", "gpu", "(null)", "", "relative"), strict=True)),
        ]
    )
    assert places == [
        JobDetails(JobId("12_3"), 1700000000.0, "gpu", "lab", "normal", "/d"),
        JobDetails(JobId("12_4"), 1700000000.0, "gpu", "lab", "normal", "/d"),
        JobDetails(JobId("13"), None, "gpu"),
    ]


def test_accounting_has_the_patterns_of_the_outputs_as_they_were_given() -> None:
    """24.11 makes them absolute, 26.05 leaves the default relative [ran]; an older one refuses the fields."""
    rows = [
        ("12_1", "1700000000", "p", "a", "q", "/w", "me", "100%ab", "/w/o-%A-%3a.txt", "/w/e/%x.%j"),
        ("13", "1700000001", "p", "a", "q", "/w", "me", "wrap", "slurm-%j-%u.out", ""),
        ("14", "1700000001", "p", "a", "q", "/w", "me", "wrap", "", ""),
        ("12.batch", "1700000000", "", "", "", "", "", "", "", ""),
    ]
    places = sacct.parse_places(dict(zip(sacct.OUTPUTS, row, strict=True)) for row in rows)
    assert [(place.job_id, place.output, place.errors) for place in places] == [
        ("12_1", "/w/o-%A-%3a.txt", "/w/e/100%%ab.%j"),
        ("13", "/w/slurm-%j-me.out", None),
        ("14", None, None),
    ]
