"""What a job printed, as lines that can be matched: without colours, progress bars' returns and ranks. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from evalmon_agent.evidence.diagnosis.shells import STEPD

_MAX_CHARS = 1000
_MAX_LINES = 3000
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_=>])")
# What launchers and loggers put before a line: torchrun, srun -l, mpirun, Ray and vLLM, exception groups.
_PREFIX = re.compile(
    r"\[(?:default)?\d*\]?\[?rank ?\d+\]:\s?"
    r"|\[rank\d+\]:\s?"
    r"|\[\d+,\d+\]<std(?:err|out)>:\s?"
    r"|\((?:\w+ )?(?:[\w-]+ )?pid=\d+[^)]{0,60}\)\s?"
    r"|\s?\d{1,4}: (?=\s|Traceback|[A-Za-z_.]+(?:Error|Exception)\b)"
    r"|(?:ERROR|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]{1,60}\] ?"
    r"|\s{2,}\| ?(?=\s|Traceback|[A-Za-z_.]+(?:Error|Exception|Group)\b)",
    re.ASCII,
)
_GROUP_RULE = re.compile(r"\s*\+-\+-{5,}|\s*\+-{10,}")
_GROUP_HEAD = re.compile(r"\s*\+ Exception Group Traceback")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_QUOTED = re.compile(r"\s*(?:>|│|┃)")
_END_OF_ATTEMPT = re.compile(rf"{STEPD}\*\*\* .* DUE TO (?:JOB REQUEUE|PREEMPTION|NODE FAILURE)")


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `raw` is as printed, without colours; `text` is without what launchers put before it."""

    raw: str
    text: str
    is_quoted: bool = False
    """It stands in a quotation or a code block: somebody's text about an error rather than an error."""


def lines_of(output: str) -> list[Line]:
    """The lines of the latest attempt: with --open-mode=append, those of earlier ones stand before."""
    found: list[Line] = []
    is_fenced = False
    for printed in _ANSI.sub("", output).split("\n"):
        for raw in printed.split("\r"):
            raw = raw[:_MAX_CHARS].rstrip()  # noqa: PLW2901 - the same line, cut
            if _FENCE.match(raw):
                is_fenced = not is_fenced
            found.append(Line(raw, _bare(raw), is_fenced or bool(_QUOTED.match(raw))))
    if is_fenced:
        # A fence without an end is none.
        found = [Line(line.raw, line.text, bool(_QUOTED.match(line.raw))) for line in found]
    return _latest_attempt(found[-_MAX_LINES:])


def _bare(raw: str) -> str:
    if _GROUP_RULE.match(raw):
        return ""
    if _GROUP_HEAD.match(raw):
        return "Traceback (most recent call last):"
    text = raw
    for _ in range(3):
        match = _PREFIX.match(text)
        if match is None or not match[0]:
            break
        text = text[match.end() :]
    return text


def _latest_attempt(lines: list[Line]) -> list[Line]:
    ends = [number for number, line in enumerate(lines) if _END_OF_ATTEMPT.match(line.raw)]
    after = lines[ends[-1] + 1 :] if ends else []
    return after if any(line.raw for line in after) else lines
