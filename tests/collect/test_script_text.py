"""Tests which log directory a script names, only where a shell would certainly use it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.collect.attempt_files import directories, words_behind

LOG_DIR = re.compile(r"--log-dir[= ]\s*")
KNOWN = {"SLURM_JOB_ID": "77", "HOME": "/home/me"}


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("inspect eval t.py --log-dir ./logs", ["./logs"]),
        ("inspect eval t.py --log-dir=logs --model x", ["logs"]),
        ("inspect eval t.py --log-dir 'a b' &", ["a b"]),
        ('D="/x/y"\ninspect eval t.py --log-dir "$D/logs"', ["/x/y/logs"]),
        ("export ROOT=/x\nD=${ROOT}/y\ninspect eval --log-dir ${D}/$SLURM_JOB_ID;", ["/x/y/77"]),
        ("inspect eval --log-dir $HOME/l", ["/home/me/l"]),
        ("inspect eval --log-dir ${UNKNOWN:-/fallback}/l", ["/fallback/l"]),
        ("a --log-dir x\nb --log-dir y\nc --log-dir x", ["x", "y"]),
        ("a --log-dir 'x$y'", ["x$y"]),
        ("a --log-dir a\\ b", ["a b"]),
        ("inspect eval --log-dir $UNKNOWN/l", []),
        ("inspect eval --log-dir $(mktemp -d)", []),
        ("inspect eval --log-dir `mktemp -d`", []),
        ("inspect eval --log-dir ~/logs", []),
        ("# inspect eval --log-dir old", []),
        ("A=$B\nB=$A\ninspect eval --log-dir $A", []),
        ("inspect eval --log-dir", []),
    ],
)
def test_the_value_of_an_option_is_found(script: str, expected: list[str]) -> None:
    assert words_behind(LOG_DIR, script, KNOWN) == expected


def test_the_directory_that_it_changes_to_is_found() -> None:
    assert directories('set -e\ncd "$HOME/evals"\n  cd -- sub && ls\necho cd no\n', KNOWN) == ["/home/me/evals", "sub"]


@given(st.text(alphabet="ABab$ {}:-'\"\\=\n/", max_size=60))
def test_any_text_is_accepted(text: str) -> None:
    words_behind(LOG_DIR, f"{text}\nx --log-dir {text}", KNOWN)
