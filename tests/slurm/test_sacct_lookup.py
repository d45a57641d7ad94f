"""Tests the search in accounting for the job submitted with a token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.sacct import SUBMIT_LINE, argv, ended_lately, is_unknown_field, parse_submit_lines, rows

D = "\x1f0a1b2c3d"
TOKENS = {"00aa", "11bb"}


def lookup(printed: str, tokens: set[str]) -> dict[str, str]:
    return dict(parse_submit_lines(rows(printed, SUBMIT_LINE, delimiter=D), tokens=tokens))


def test_the_query_covers_one_users_jobs_in_a_time_window() -> None:
    words = argv(SUBMIT_LINE, ended_lately(user_id=1000, since_s=90), delimiter=D)
    assert words[:4] == ["sacct", "-n", "-p", "-D"]
    assert ["-X", "-u", "1000", "-S", "now-90seconds", "-E", "now+3600seconds"] == words[5:12]
    assert ["-o", "JobID,SubmitLine"] == words[-2:]


def test_a_token_in_the_scripts_path_finds_the_job_or_the_array() -> None:
    text = (
        f"7{D}sbatch --parsable -- /exp/evalmon/scripts/00aa/cell.slurm{D}\n"
        f"9_[0-3]{D}sbatch --parsable -- /exp/evalmon/scripts/11bb/cell.slurm{D}\n"
        f"9_4{D}sbatch --parsable -- /exp/evalmon/scripts/11bb/cell.slurm{D}\n"
        f"10{D}sbatch 00aa 11bb{D}\n"
    )
    assert {"00aa": "7", "11bb": "9"} == lookup(text, TOKENS)


def test_a_path_with_a_newline_stays_in_its_row() -> None:
    text = f"7{D}sbatch -- /a\n8 b/scripts/00aa/cell.slurm{D}\n8{D}sbatch x{D}\n"
    assert {"00aa": "7"} == lookup(text, TOKENS)


def test_the_rows_of_a_requeued_job_are_one_job() -> None:
    assert {"00aa": "7"} == lookup(f"7{D}sbatch /s/00aa/c{D}\n" * 2, TOKENS)


def test_an_older_sacct_that_lacks_the_field_is_recognised() -> None:
    assert is_unknown_field('sacct: error: Invalid field requested: "SubmitLine"')
    assert not is_unknown_field("sacct: error: Problem talking to the database: Connection refused")


@given(st.text(alphabet=st.sampled_from("0123_+[]- \n/ab" + D)))
def test_no_output_invents_a_job(text: str) -> None:
    assert all(f"/{token}/" in text and job_id in text for token, job_id in lookup(text, {"a", "b"}).items())
