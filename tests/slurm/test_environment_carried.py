"""Tests the environment carried for late submissions: complete, recognised by a digest, and unreadable on disk."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.environment import (
    CARRIER,
    carried,
    clean,
    digest,
    for_evals,
    for_monitor_jobs,
    for_submission,
    is_same,
    pack,
    unpack,
)

NAMES = st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), min_size=1, max_size=20)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=200)
ENVIRONMENTS = st.dictionaries(NAMES, VALUES | st.just("bytes \udcff\udc80"), max_size=20)


@given(ENVIRONMENTS)
def test_a_packed_environment_is_unpacked_unchanged(environ: dict[str, str]) -> None:
    packed = pack(environ)
    assert packed is not None
    assert packed.isascii()
    assert environ == unpack(packed)


@given(ENVIRONMENTS)
def test_a_monitor_job_carries_the_environment_of_an_evals_sbatch_and_passes_it_on(environ: dict[str, str]) -> None:
    environ = {**environ, "SBATCH_ACCOUNT": "mine", "CUDA_VISIBLE_DEVICES": "0"}
    first = for_monitor_jobs(environ)
    assert for_evals(environ) == carried(first)
    assert "SBATCH_ACCOUNT" not in first
    on_the_node = {**first, "SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "200", "TMPDIR": "/job/7"}
    successor = for_monitor_jobs(on_the_node)
    assert for_evals(environ) == carried(successor) == for_evals(carried(successor) or {})
    assert CARRIER not in clean(successor)


def test_evals_submitted_inside_a_job_get_nothing_of_that_job() -> None:
    inside = {"PATH": "/bin", "SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "100"}
    assert {"PATH": "/bin"} == for_submission(inside, inside_job=True) == carried(for_monitor_jobs(inside))


@pytest.mark.parametrize("text", ["", "x", "~~~~", "\udcff", pack({"A": "b"}) or "", "c$}o"])
def test_an_invalid_packed_environment_is_none(text: str) -> None:
    assert unpack(text[:-3]) is None


def test_a_too_large_environment_is_not_carried() -> None:
    huge = {f"V{number}": f"{number * 7919 % 1_000_003:x}" * 40 for number in range(20_000)}
    assert pack(huge) is None
    assert carried(for_monitor_jobs(huge)) is None


def test_a_decompression_bomb_is_none() -> None:
    assert unpack(pack({"A": "x" * 5 * 1024 * 1024}) or "") is None


@given(ENVIRONMENTS, st.text("abcdefg", min_size=1), VALUES)
def test_the_digest_differs_for_any_other_value_and_ignores_the_session(
    environ: dict[str, str], name: str, value: str
) -> None:
    known = digest(environ, salt="s")
    assert is_same({**environ, "SSH_TTY": "/dev/pts/9", "PWD": "/elsewhere", "EVALMON_X": "1"}, known)
    assert is_same({**environ, name: value}, known) == (environ.get(name) == value)
    assert known != digest(environ, salt="t")
    assert len(known) == len("s:") + 64
