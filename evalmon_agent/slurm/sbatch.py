"""Submits a script: argv and answer of sbatch, and the lookup in accounting of a job whose answer was lost."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from evalmon_agent.words.job_id import JobId, parse_job_id

TEST_ONLY = "--test-only"

_SENTENCE = re.compile(r"\bSubmitted batch job ([1-9][0-9]{0,9})\b(?: on cluster (\S+))?", re.ASCII)
_PARSABLE = re.compile(r"([1-9][0-9]{0,9})(?:;([^\s;]+))?", re.ASCII)

# sacct has `SubmitLine` since 21.08; an older one refuses the field, and so the whole call, which is hence its own.
# Without -s a window leaves out what never became eligible, such as a held job that was cancelled; with it, -E is
# needed [ran, 22.05]. Jobs that are not over are squeue's to tell.
_OVER = "BF,CA,CD,DL,F,NF,OOM,PR,TO"

_UNKNOWN_FIELD = re.compile(r"Invalid field requested", re.IGNORECASE)


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


def lookup_argv(*, user_id: int, since_s: int, delimiter: str) -> list[str]:
    """The jobs of this user that ended during the last `since_s` seconds; an hour more, for clocks that differ."""
    window = ["-S", f"now-{since_s}seconds", "-E", "now+3600seconds", "-s", _OVER]
    which = [f"--delimiter={delimiter}", "-u", str(user_id), *window]
    return ["sacct", "-n", "-P", "-D", "-X", *which, "-o", "JobID,SubmitLine"]


def is_unknown_field(words: str) -> bool:
    """Whether sacct is too old to know the field."""
    return _UNKNOWN_FIELD.search(words) is not None


def parse_lookup(text: str, *, delimiter: str, tokens: Collection[str]) -> dict[str, JobId]:
    """{token: job id (of the array, if it is one)} for each token in a submitted script's path."""
    rows = re.split(rf"^(\d{{1,10}})(?:[_+]\S*?)?{re.escape(delimiter)}", text, flags=re.MULTILINE)
    # Nothing, then in turn an id and all text up to the next row: a path may hold a newline.
    job_ids: dict[str, JobId] = {}
    for text_of_id, line in zip(rows[1::2], rows[2::2], strict=True):
        job_id = parse_job_id(text_of_id)
        for token in tokens:
            if job_id is not None and f"/{token}/" in line:
                job_ids.setdefault(token, job_id)
    return job_ids
