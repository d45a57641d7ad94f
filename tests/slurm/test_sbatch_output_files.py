"""Tests where a job's output will be written, as far as its script shows before it is submitted."""

from __future__ import annotations

import pytest

from evalmon_agent.slurm.sbatch import path_beforehand


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "/s/slurm-%j.out"),
        ({"output": "logs/%x-%j.out"}, "/s/logs/%x-%j.out"),
        ({"output": "/l/%u/%x/%A_%a.out"}, "/l/me/cell/%A_%a.out"),
        ({"output": "/l/100%%/%j"}, "/l/100%/%j"),
        ({"output": "/l/%j/out"}, None),
        ({"output": "logs/%A/%a.out"}, None),
        ({"output": "logs\\/%j/out"}, "/s/logs/%j/out"),
        ({"chdir": "sub"}, "/s/sub/slurm-%j.out"),
        ({"chdir": "/w", "output": "logs/out"}, "/w/logs/out"),
        ({"output": "/dev/null"}, "/dev/null"),
    ],
)
def test_the_directory_is_known_unless_it_depends_on_the_job(options: dict[str, str], expected: str | None) -> None:
    assert path_beforehand(options, "output", name="cell", user="me", folder="/s") == expected


def test_errors_have_their_own_pattern() -> None:
    options = {"output": "a/out", "error": "b/err"}
    assert path_beforehand(options, "error", name="cell", user="me", folder="/s") == "/s/b/err"
