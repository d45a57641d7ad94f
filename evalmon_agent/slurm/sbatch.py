"""Submits a script: the argv of sbatch, and its answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evalmon_agent.words.job_id import JobId, parse_job_id

TEST_ONLY = "--test-only"

_SENTENCE = re.compile(r"\bSubmitted batch job ([1-9][0-9]{0,9})\b(?: on cluster (\S+))?", re.ASCII)
_PARSABLE = re.compile(r"([1-9][0-9]{0,9})(?:;([^\s;]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """The job that sbatch's answer names, and its cluster if it does.

    `said_plainly`: in a sentence, and not by a number alone on its line, which could be anything of a site's wrapper.
    """

    job_id: JobId
    cluster: str | None = None
    said_plainly: bool = False


def argv(script: str, *, options: Sequence[str] = ()) -> list[str]:
    """Submit this file. Without options, its #SBATCH lines alone decide; nothing in them is overridden."""
    # The `--` is for a file whose name starts with a dash.
    return ["sbatch", "--parsable", *options, "--", script]


def parse(stdout: str, stderr: str = "") -> Answer | None:
    """The job that sbatch's answer names; None if it names none, or could mean several.

    With `--parsable` it is the id alone on a line, or with the cluster. A site's wrapper may drop that option, so the
    sentence of plain sbatch counts too, and first; and it may print lines of its own, a bare number among them.
    """
    sentences = set(_SENTENCE.findall(f"{stdout}\n{stderr}"))
    lines = {match.groups("") for line in stdout.splitlines() if (match := _PARSABLE.fullmatch(line.strip()))}
    answers = sentences or lines
    if len(answers) != 1:
        return None
    [(job_id, cluster)] = answers
    parsed = parse_job_id(job_id)
    return None if parsed is None else Answer(parsed, cluster or None, said_plainly=bool(sentences))


def knows_no_test(words: str) -> bool:
    """Whether a site's own sbatch wrapper does not know the option."""
    return TEST_ONLY in words
