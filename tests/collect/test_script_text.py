"""Tests which directories a script changes to, only where a shell would certainly use them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.collect.attempt_files import directories

KNOWN = {"SLURM_JOB_ID": "77", "HOME": "/home/me"}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("cd ./logs", ["./logs"]),
        ("cd -- logs && inspect eval t.py --model x", ["logs"]),
        ("cd 'a b' &", ["a b"]),
        ('D="/x/y"\ncd "$D/logs"', ["/x/y/logs"]),
        ("export ROOT=/x\nD=${ROOT}/y\ncd ${D}/$SLURM_JOB_ID;", ["/x/y/77"]),
        ("cd $HOME/l", ["/home/me/l"]),
        ("cd ${UNKNOWN:-/fallback}/l", ["/fallback/l"]),
        ("cd x\ncd y\ncd x", ["x", "y"]),
        ("cd 'x$y'", ["x$y"]),
        ("cd a\\ b", ["a b"]),
        ("cd $UNKNOWN/l", []),
        ("cd $(mktemp -d)", []),
        ("cd `mktemp -d`", []),
        ("cd ~/logs", []),
        ("# cd old", []),
        ("A=$B\nB=$A\ncd $A", []),
        ("cd ", []),
    ],
)
def test_a_directory_is_found_where_it_is_certain(script: str, expected: list[str]) -> None:
    assert directories(script, KNOWN) == expected


def test_the_directory_that_it_changes_to_is_found() -> None:
    assert directories('set -e\ncd "$HOME/evals"\n  cd -- sub && ls\necho cd no\n', KNOWN) == ["/home/me/evals", "sub"]


@given(st.text(alphabet="ABab$ {}:-'\"\\=\n/", max_size=60))
def test_any_text_is_accepted(text: str) -> None:
    directories(f"{text}\ncd {text}", KNOWN)
