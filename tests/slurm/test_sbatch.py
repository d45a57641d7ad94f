"""Tests sbatch's arguments and the job id in its answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.sbatch import Submitted, argv, parse
from evalmon_agent.words.job_id import JobId


def test_a_script_is_submitted_by_its_path_with_only_the_given_options() -> None:
    assert argv("a.slurm") == ["sbatch", "--parsable", "--", "a.slurm"]
    assert argv("-odd", options=["--mem=200M"]) == ["sbatch", "--parsable", "--mem=200M", "--", "-odd"]


PLAINLY = {"said_plainly": True}


@pytest.mark.parametrize(
    ("stdout", "stderr", "expected"),
    [
        ("123\n", "", Submitted(JobId("123"))),
        ("123;cluster_b\n", "", Submitted(JobId("123"), "cluster_b")),
        ("Welcome!\nYou have 3 jobs\n456;c\n", "", Submitted(JobId("456"), "c")),
        ("Submitted batch job 123\n", "", Submitted(JobId("123"), **PLAINLY)),
        ("1500\nSubmitted batch job 123 on cluster c2\n", "", Submitted(JobId("123"), "c2", **PLAINLY)),
        ("[wrapper] Submitted batch job 123\n", "", Submitted(JobId("123"), **PLAINLY)),
        ("1500\n", "sbatch: Submitted batch job 123\n", Submitted(JobId("123"), **PLAINLY)),
        ("5\n5\n", "", Submitted(JobId("5"))),
        # Which of them is the job?
        ("1500\n456\n", "", Submitted()),
        ("Submitted batch job 1\nSubmitted batch job 2\n", "", Submitted()),
        ("", "", Submitted()),
        ("0\n", "", Submitted()),
        ("123;\n", "", Submitted()),
        ("123 456\n", "", Submitted()),
        ("Submitted batch job 12345678901\n", "", Submitted()),
        ("", "sbatch: Job 77 to start at 2026-11-26T12:00:00 using 1 processors on nodes n1\n77\n", Submitted()),
    ],
)
def test_an_id_is_found_or_nothing_is_guessed(stdout: str, stderr: str, expected: Submitted) -> None:
    assert parse(stdout, stderr) == expected


@given(st.text(), st.text())
def test_parsing_never_raises(stdout: str, stderr: str) -> None:
    parse(stdout, stderr)
