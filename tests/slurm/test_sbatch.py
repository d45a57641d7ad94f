"""sbatch: the argv, and the id in what it prints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.sbatch import argv, parse_parsable


def test_a_users_script_is_submitted_without_any_option_of_ours() -> None:
    expected = ["sbatch", "--parsable", "--", "a.slurm", "x"]
    assert expected == argv("a.slurm", arguments=["x"])


def test_our_options_stand_before_the_script() -> None:
    expected = ["sbatch", "--parsable", "--mem=200M", "--", "-odd"]
    assert expected == argv("-odd", options=["--mem=200M"])


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [
        ("123\n", (123, None)),
        ("123;cluster_b\n", (123, "cluster_b")),
        ("Welcome!\nYou have 3 jobs\n456;c\n", (456, "c")),
        ("7\n8\n", (8, None)),
        ("", None),
        ("Submitted batch job 123\n", None),
        ("0\n", None),
        ("123;\n", None),
        ("123 456\n", None),
    ],
)
def test_the_id_is_the_last_line_that_is_one(stdout: str, expected: tuple[int, str | None] | None) -> None:
    assert expected == parse_parsable(stdout)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    parse_parsable(text)
