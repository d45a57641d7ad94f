"""Under which command lines does accounting know my jobs: the argv, and the jobs that bear a token in theirs.

sacct has `SubmitLine` since 21.08; an older one refuses the field, and so the whole call, which is hence its own.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from evalmon_agent.words.job_id import JobId, parse_job_id

# Without -s a window leaves out what never became eligible, such as a held job that was cancelled; with it, -E is
# needed [ran, 22.05]. Jobs that are not over are squeue's to tell.
_OVER = "BF,CA,CD,DL,F,NF,OOM,PR,TO"

_UNKNOWN_FIELD = re.compile(r"Invalid field requested", re.IGNORECASE)


def argv(*, user_id: int, since_s: int, delimiter: str) -> list[str]:
    """The jobs of this user that ended during the last `since_s` seconds; an hour more, for clocks that differ."""
    window = ["-S", f"now-{since_s}seconds", "-E", "now+3600seconds", "-s", _OVER]
    which = [f"--delimiter={delimiter}", "-u", str(user_id), *window]
    return ["sacct", "-n", "-P", "-D", "-X", *which, "-o", "JobID,SubmitLine"]


def is_unknown_field(words: str) -> bool:
    """Whether sacct is too old to know the field."""
    return _UNKNOWN_FIELD.search(words) is not None


def parse(text: str, *, delimiter: str, tokens: Collection[str]) -> dict[str, JobId]:
    """{token: job id, of an array the array's} for each token that stands in a submitted script's path."""
    rows = re.split(rf"^(\d{{1,10}})(?:[_+]\S*?)?{re.escape(delimiter)}", text, flags=re.MULTILINE)
    # Nothing, then in turn an id and all text up to the next row: a path may hold a newline.
    found: dict[str, JobId] = {}
    for text_of_id, line in zip(rows[1::2], rows[2::2], strict=True):
        job_id = parse_job_id(text_of_id)
        for token in tokens:
            if job_id is not None and f"/{token}/" in line:
                found.setdefault(token, job_id)
    return found
