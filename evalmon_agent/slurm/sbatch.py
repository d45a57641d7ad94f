"""How is a script submitted: the argv of sbatch, and the id that it prints."""

from __future__ import annotations

import re
from collections.abc import Sequence

# `--parsable`: the id alone, or with the cluster if the job went to another one or to a federation.
_ACCEPTED = re.compile(r"([1-9][0-9]{0,9})(?:;([^\s;]+))?", re.ASCII)


def argv(script: str, *, options: Sequence[str] = (), arguments: Sequence[str] = ()) -> list[str]:
    """Submit this file. Without options, its #SBATCH lines alone decide; nothing in them is overridden."""
    # The `--` is for a file whose name starts with a dash.
    return ["sbatch", "--parsable", *options, "--", script, *arguments]


def parse_parsable(stdout: str) -> tuple[int, str | None] | None:
    """The job's id and its cluster, if one is named; None where sbatch printed no id.

    Plugins of a site may print before it, so the last line that is one counts.
    """
    for line in reversed(stdout.splitlines()):
        match = _ACCEPTED.fullmatch(line.strip())
        if match:
            return int(match[1]), match[2]
    return None
