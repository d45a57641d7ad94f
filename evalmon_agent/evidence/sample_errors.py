"""Groups the errors in which samples of one log ended, and counts them. Pure."""

from __future__ import annotations

import re
from collections import Counter

from evalmon_agent.evidence.diagnosis.diagnose import cause_of_error
from evalmon_agent.evidence.diagnosis.output import written
from evalmon_agent.evidence.normalised import normalised
from evalmon_agent.evidence.result import SampleError, as_error

_SHOWN = 5
_DISTINCT_AT_MOST = 200
_NORMALISED_AT_MOST = 20_000
_READ_CHARS = 400
# Numbers that `normalised` takes out in any case: most messages need not be normalised one by one.
_LARGE_NUMBER = re.compile(r"(?<![\w.-])(?:\d{5,}|\d+\.\d+)(?![\w.])")


class SampleErrors:
    """Counts errors that are equal but for numbers, paths and the like.

    Memory and time are bounded: 200 errors are told apart, by the first 400 characters of at most 20,000 messages that
    differ in more than large numbers (60 us of CPU each). What comes after them is among `samples` only.
    """

    def __init__(self) -> None:
        self.samples = 0
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._lines: dict[int, str] = {}

    def add(self, message: object) -> None:
        """Count the error of one sample, as its log has it."""
        self.samples += 1
        if not isinstance(message, str) or not message:
            return
        message = message[:_READ_CHARS]
        key = hash(_LARGE_NUMBER.sub("", message))
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) >= _NORMALISED_AT_MOST:
                return
            line = self._lines[key] = self._line(message)
        if line:
            self._counts[line] += 1

    def _line(self, message: str) -> str:
        """The line by which it is counted; empty if there are too many."""
        line = _one_line(message)
        if line not in self._examples and len(self._examples) >= _DISTINCT_AT_MOST:
            return ""
        self._examples.setdefault(line, message)
        return line

    def most_frequent(self) -> tuple[SampleError, ...]:
        """The most frequent ones, each with the cause that its first message shows."""
        errors = []
        for line, samples in self._counts.most_common(_SHOWN):
            error = as_error(self._examples[line]) or ""
            errors.append(SampleError(cause_of_error(error), _one_line(error), samples))
        return tuple(errors)


def _one_line(error: str) -> str:
    # A repr has its line breaks as `\n`.
    return normalised(written(error).text.replace("\\n", " "))
