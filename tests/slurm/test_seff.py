"""Tests the parsing of seff's reports of many sites, and which of them are reliable."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.seff import SeffReport, argv, is_broken, parse, parse_ended
from evalmon_agent.words.job_id import JobId
from vectors import Sample, seff_samples

SAMPLES = seff_samples()
REPORTS = [pytest.param(sample, id=sample.name) for sample in SAMPLES if sample.expected is not None]
OTHERS = [pytest.param(sample.printed, id=sample.name) for sample in SAMPLES if sample.expected is None]

WHOLE = """\
Job ID: 7317012
Array Job ID: 7317010_6
Cluster: c
User/Group: u/g
State: COMPLETED (exit code 0)
Nodes: 1
Cores per node: 16
CPU Utilized: 16:08:54
CPU Efficiency: 4.32% of 15-13:31:28 core-walltime
Job Wall-clock time: 23:20:43
Memory Utilized: 32.29 GB
Memory Efficiency: 50.45% of 64.00 GB
"""
NO_PERL_MODULE = "Can't locate Slurmdb.pm in @INC (you may need to install the Slurmdb module)\n"


def test_seff_is_asked_about_an_array_task_by_its_own_id() -> None:
    assert argv(JobId("123_4")) == ["seff", "123_4"]


@pytest.mark.parametrize("sample", REPORTS)
def test_reports_of_many_sites_are_parsed_as_expected(sample: Sample) -> None:
    report = parse(sample.printed)
    assert report is not None
    read = dataclasses.asdict(report)
    assert {key: sample.expected.get(key) for key in read} == read


@pytest.mark.parametrize("printed", OTHERS)
def test_other_text_is_no_report(printed: str) -> None:
    assert None is parse(printed)


@pytest.mark.parametrize("sample", REPORTS)
def test_only_figures_of_an_ended_job_are_usable(sample: Sample) -> None:
    expected = sample.expected.get("usable", True)
    assert expected is (parse_ended(sample.printed) is not None)


def test_lines_are_parsed_in_any_order_with_noise_between_them() -> None:
    noise = "Use of uninitialized value $x in division at /usr/bin/seff line 5.\n"
    shuffled = noise.join(f"#  {line}\n" for line in reversed(WHOLE.splitlines()))
    assert parse(WHOLE) == parse(shuffled)


def test_only_the_first_report_is_parsed() -> None:
    assert parse(WHOLE) == parse(WHOLE + "Job ID: 9\nState: FAILED (exit code 1)\nNodes: 7\n")


@pytest.mark.parametrize(
    ("line", "attribute", "expected"),
    [
        ("Memory Efficiency: 0.00% of 16.00 B", "mem_requested_bytes", None),
        ("Memory Utilized: 16.00 B", "mem_utilized_bytes", None),
        ("Memory Utilized: 1.50 EB (estimated maximum)", "mem_utilized_bytes", 3 * 1024**6 // 2),
        ("Memory Efficiency: 120.50% of 10.00 GB (5.00 GB/node)", "mem_efficiency_pct", 120.5),
        ("CPU Efficiency: -nan% of 00:00:00 core-walltime", "cpu_efficiency_pct", None),
        ("User/Group: /domain users", "user", None),
        ("User/Group: /domain users", "group", "domain users"),
        ("State: CANCELLED by 1001 (exit code 0)", "state", "CANCELLED"),
        ("State: RUNNING", "exit_code", None),
        ("Requested wall clock time: 00:10:00", "time_limit_s", 600),
        ("Cores: many", "cores", None),
    ],
)
def test_a_single_line_is_parsed(line: str, attribute: str, expected: object) -> None:
    assert expected == getattr(parse(line), attribute)


def test_the_number_of_cores_comes_from_the_times_since_cores_per_node_is_rounded_down() -> None:
    report = parse(
        "Nodes: 2\nCores per node: 1\nCPU Efficiency: 5.00% of 00:05:00 core-walltime\nJob Wall-clock time: 00:01:40\n"
    )
    assert report is not None
    assert report.cores == 3


def test_text_without_a_line_of_seff_is_no_report() -> None:
    assert None is parse("")
    assert None is parse("Job not found.\n")
    assert None is parse("Welcome to the cluster: have fun\nState:\n")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("COMPLETED (exit code 0)", "RUNNING"),
        ("COMPLETED (exit code 0)", "PENDING"),
        ("COMPLETED (exit code 0)", "COMPLETING (exit code 0)"),
        ("COMPLETED (exit code 0)", "FROZEN (exit code 0)"),
        ("State: COMPLETED (exit code 0)\n", ""),
        ("Nodes: 1", "Efficiency not available for jobs in the PENDING state."),
    ],
)
def test_a_report_that_shows_no_ended_job_is_not_usable(old: str, new: str) -> None:
    printed = WHOLE.replace(old, new)
    assert parse_ended(printed) is None


@pytest.mark.parametrize(("wall", "expected"), [("00:00:29", True), ("00:00:30", False)])
def test_zeros_are_accepted_for_short_jobs_only(wall: str, expected: bool) -> None:
    zeros = (
        f"State: COMPLETED (exit code 0)\nCPU Utilized: 00:00:00\nJob Wall-clock time: {wall}\n"
        f"CPU Efficiency: 0.00% of {wall} core-walltime\nMemory Utilized: 0.00 MB\n"
    )
    assert expected is (parse_ended(zeros) is not None)


def test_a_usable_report_is_what_the_text_says() -> None:
    assert parse_ended(WHOLE) == parse(WHOLE)
    assert parse_ended("") is None


@pytest.mark.parametrize(
    ("returncode", "stdout", "stderr", "expected"),
    [
        (2, "", NO_PERL_MODULE, True),
        (255, NO_PERL_MODULE, "", True),
        (127, "", "", True),
        (126, "", "/usr/bin/seff: /usr/bin/perl: bad interpreter: No such file or directory", True),
        (2, "", "Job not found.", False),
        (1, "", "slurmdb_jobs_get: Problem talking to the database", False),
        (2, WHOLE, NO_PERL_MODULE, False),
        (0, "", NO_PERL_MODULE, False),
    ],
)
def test_a_seff_that_perl_cannot_run_counts_as_not_installed(
    returncode: int, stdout: str, stderr: str, expected: bool
) -> None:
    assert expected is is_broken(returncode, stdout, stderr)


lines = st.sampled_from([*WHOLE.splitlines(), "State: RUNNING", "Cores: 0", "junk", "Job Wall-time: 1% of of"])


@given(st.one_of(st.text(), st.lists(lines).map("\n".join)))
def test_parsing_never_raises(printed: str) -> None:
    parse_ended(printed)
    is_broken(1, printed, printed)


@given(st.sampled_from(WHOLE.splitlines()), st.text(max_size=30))
def test_a_torn_line_does_not_raise(line: str, tail: str) -> None:
    for at in range(len(line)):
        parse(line[:at] + tail)


def test_an_empty_report_has_no_figures() -> None:
    assert {None} == set(dataclasses.asdict(SeffReport()).values())


BOXED = """\
########################################
# Job ID           : 7317012           #
# State            : COMPLETED (exit code 0)   #
# CPU Utilized     : 16:08:54          #
# CPU Efficiency   : 4.32% of 15-13:31:28 core-walltime #
# Wall-clock time  : 23:20:43          #
# Memory Utilized  : 32.29 GB          #
# Memory Efficiency: 50.45% of 64.00 GB #
########################################
"""


@pytest.mark.parametrize("border", ["#", "|", "*", "##"])
@pytest.mark.parametrize(
    "wall", ["Wall-clock time", "Wall clock time", "Job Wall-clock time", "Actual wall clock time"]
)
def test_a_sites_rewritten_report_in_a_box_is_parsed(border: str, wall: str) -> None:
    report = parse(BOXED.replace("#", border).replace("Wall-clock time", wall))
    assert report is not None
    assert report == dataclasses.replace(
        parse(WHOLE) or SeffReport(), array_job_id=None, cluster=None, user=None, group=None, nodes=None
    )
    assert report.wall_clock_s == 23 * 3600 + 20 * 60 + 43


def test_other_times_are_not_taken_for_the_jobs() -> None:
    for line in (
        "Wall clock time efficiency: 5.3%",
        "Requested wall clock time: 00:10:00",
        "Job queued time: 00:00:07",
    ):
        report = parse(WHOLE.replace("Job Wall-clock time: 23:20:43", line))
        assert report is not None
        assert report.wall_clock_s is None
