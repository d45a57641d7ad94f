"""Was an error the end, or did the program go on after it? Pure.

A log is full of errors that were caught: one counts only if what follows is what follows an end.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from evalmon_agent.evidence.diagnosis.lines import Line
from evalmon_agent.evidence.diagnosis.shells import STEPD

# After more lines than these that are no last words, the program had gone on.
_PLAIN_AT_MOST = 12
_PLAIN_AT_MOST_IF_WEAK = 3
_INFO_AT_MOST = 4

_NOISE = re.compile(
    rf"slurmstepd(?:-\S+)?:|{STEPD}|srun:|wandb:|"
    r"\+ |\S+: line \d+:|During handling of|The above exception was|Traceback |"
    r"[=*#_-]{5,}|.*resource_tracker|.*destroy_process_group|.*warnings\.warn|Exception ignored in|"
    r"Task interrupted|Log: |terminate called|  what\(\)|(?:frame )?#\d+|\[?E\d{4} |"
    r".*(?:CUDA_LAUNCH_BLOCKING|TORCH_USE_CUDA_DSA|HYDRA_FULL_ERROR)|Root Cause|"
    r"\s+(?:time|host|rank|exitcode|error_file|traceback) +:"
)
_BAR = re.compile(r"(?<!\d)(\d{1,3})%\s*\|")
_INFO = re.compile(r"\W{0,5}(?:[\d:., TZ+-]{8,40}\W{0,5})?(?:\[?\w[\w.:-]*\]?\W{1,5})?INFO\b")
_WENT_ON = re.compile(
    r"\bretry(?:ing)?\b|\bre-?tried\b|\bfall(?:ing|s)? ?back\b|\bfallback\b|\brecover(?:ed|ing)\b|\bresum(?:ed|ing)\b|"
    r"\bskipp(?:ed|ing)\b|\bignor(?:ed|ing)\b|\bcontinu(?:ed|ing)\b|\breduc(?:ed|ing) batch|\btrying again\b|"
    r"\battempt \d+|\bsucceeded\b|\bcaught\b|\bhandled\b|"
    r"\b(?:eval(?:uation)?|run|task|job|test)s? (?:is |has )?(?:complete|completed|finished|succeeded|done)\b|"
    r"\bresults? (?:saved|written)\b|^\s*(?:accuracy|acc|score|exact_match|mean|f1)\b[^a-z]*\d|\ball samples\b",
    re.IGNORECASE,
)


def went_on(text: str) -> bool:
    """Whether a line says that an error was not the end."""
    return bool(_WENT_ON.search(text))


class Ending:
    """Where the last words of a text begin. `others`: lines that tell of errors, which are no sign of life."""

    def __init__(self, lines: Sequence[Line], others: Collection[int]) -> None:
        self._begins_at = _last_words(lines, others, plain_at_most=_PLAIN_AT_MOST)
        self._weak_begins_at = _last_words(lines, others, plain_at_most=_PLAIN_AT_MOST_IF_WEAK)
        self._before, self._after = _bars(lines)

    def holds(self, last: int, *, weak: bool = False) -> bool:
        """Whether nothing behind line `last` shows that the program went on; a `weak` sign must be nearer."""
        # A progress bar is drawn once more when its program dies; one that gets further is alive.
        begins_at = self._weak_begins_at if weak else self._begins_at
        return last + 1 >= begins_at and self._after[last + 1] <= self._before[last]


def _last_words(lines: Sequence[Line], others: Collection[int], *, plain_at_most: int) -> int:
    """The first line from which on nothing shows that a program was at work."""
    plain = info = 0
    for number in range(len(lines) - 1, -1, -1):
        text = lines[number].text
        if not text.strip() or number in others or _NOISE.match(text) or _BAR.search(text):
            continue
        info += bool(_INFO.match(text))
        plain += 1
        if plain > plain_at_most or info > _INFO_AT_MOST or went_on(text):
            return number + 1
    return 0


def _bars(lines: Sequence[Line]) -> tuple[list[int], list[int]]:
    """For each line the percent that the last bar up to it shows, and the most that any from it on shows; 0: none."""
    shown = [int(match[1]) if (match := _BAR.search(line.text)) else 0 for line in lines]
    before, after = list(shown), [*shown, 0]
    for number in range(1, len(shown)):
        before[number] = shown[number] or before[number - 1]
    for number in range(len(shown) - 1, -1, -1):
        after[number] = max(shown[number], after[number + 1])
    return before, after
