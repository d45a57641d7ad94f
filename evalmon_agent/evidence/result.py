"""Defines what an eval's own log says: as it is read (EvalLog), and as summary.json has it (EvalResult). Pure."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from itertools import starmap
from typing import Any

from msgspec import Struct

from evalmon_agent.words.secrets import masked
from evalmon_agent.words.sizes import number

STARTED, SUCCESS, CANCELLED, ERROR = STATUSES = ("started", "success", "cancelled", "error")
UNREADABLE = "unreadable"
"""Our word for a log that is there and cannot be read."""

_WORST_FIRST = (ERROR, CANCELLED, STARTED, UNREADABLE, SUCCESS)

SCORES_AT_MOST = 1000
_NAME_LIMIT = 200
_ARGUMENTS_AT_MOST_CHARS = 8 * 1024
_ERROR_LIMIT = 2000
_LARGEST_INTEGER = 2**63
_LARGEST = sys.float_info.max


class UnreadableLogError(Exception):
    """The file is no log that we read; the message says why."""


class TooLargeError(UnreadableLogError):
    """The file is larger than what evalmon reads: it may be a whole log."""


class SampleError(Struct, frozen=True, gc=False):
    """An error that samples of one log ended in. `cause`: its slug if the diagnosis knows one.

    `error`: the exception in one line, without what differs from sample to sample (`normalised`).
    """

    cause: str | None
    error: str
    samples: int


class EvalLog(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One log. Sample counts and times that it does not tell are None."""

    status: str
    """One of STATUSES; a log whose eval was killed says `started` for ever. Or UNREADABLE."""
    path: str = ""
    kind: str = ""
    changed_at: float = 0.0
    """When its file was last changed, in epoch seconds."""
    size_bytes: int = 0
    created: datetime | None = None
    """When the eval began, with its zone."""
    task: str | None = None
    model: str | None = None
    samples_completed: int | None = None
    """Those that ended without an error; while it runs, and after a kill, those that are in the log."""
    samples_total: int | None = None
    """All that were asked for."""
    samples_limited: int | None = None
    """Those that a limit (of messages, tokens, time) stopped."""
    samples_failed: int | None = None
    """Those that ended in an error."""
    sample_errors: tuple[SampleError, ...] = ()
    """The errors that most of them ended in, the most frequent one first; the rest is what is missing."""
    scores: Mapping[str, float | None] = {}
    """`scorer/metric` to value; None for what is not a number. Empty: not scored."""
    error: str | None = None
    """The message of the error that ended it, at most 2000 characters."""
    eval_id: str | None = None
    """Its own; a copy and a log that was scored again keep it."""
    task_id: str | None = None
    """The same in all attempts at one eval (eval-retry, eval-set)."""
    task_file: str | None = None
    model_args: Mapping[str, Any] | None = None
    """Numbers and texts; None if it does not tell them, or they are longer than 8 KiB."""


class EvalResult(Struct, frozen=True, kw_only=True):
    """One of `results` of summary.json. `status` is the log's word; `scores`: {scorer/metric: value}; unknown is null.

    `created`: ISO 8601, with offset; `known_by`: the proof that the log is this job's (process, output or place).
    """

    kind: str = ""
    task: str | None = None
    model: str | None = None
    model_args: dict[str, Any] | None = None
    status: str
    samples_completed: int | None = None
    samples_total: int | None = None
    samples_limited: int | None = None
    samples_failed: int | None = None
    sample_errors: list[SampleError] = []
    scores: dict[str, float | None] = {}
    error: str | None = None
    created: str | None = None
    log: str | None = None
    known_by: str | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the log says success, with all samples done."""
        unfinished = (
            self.samples_completed is not None
            and self.samples_total is not None
            and self.samples_completed < self.samples_total
        )
        return self.status == SUCCESS and not unfinished

    @property
    def samples(self) -> str:
        """`10 of 12, 1 failed, 3 stopped by a limit`."""
        words = [f"{number(self.samples_completed)} of {number(self.samples_total)}"]
        words += [f"{number(self.samples_failed)} failed"] if self.samples_failed else []
        words += [f"{number(self.samples_limited)} stopped by a limit"] if self.samples_limited else []
        return ", ".join(words)

    @property
    def failed_samples(self) -> str | None:
        """`8 of 20 samples failed: 4 api-rate-limit (Error code: 429), 3 KeyError: 'a', 1 other`; None without any."""
        if not self.sample_errors:
            return None
        named = (f"{e.samples} {f'{e.cause} ({e.error})' if e.cause else e.error}" for e in self.sample_errors)
        rest = (self.samples_failed or 0) - sum(error.samples for error in self.sample_errors)
        others = [f"{rest} other{'s' * (rest > 1)}"] if rest > 0 else []
        of_total = f" of {number(self.samples_total)}" if self.samples_total is not None else ""
        return f"{number(self.samples_failed)}{of_total} samples failed: {', '.join([*named, *others])}"


def to_result(log: EvalLog, *, known_by: str) -> EvalResult:
    """What the log says, with where it lies."""
    return EvalResult(
        kind=log.kind,
        task=log.task,
        model=log.model,
        model_args=None if log.model_args is None else dict(log.model_args),
        status=log.status,
        samples_completed=log.samples_completed,
        samples_total=log.samples_total,
        samples_limited=log.samples_limited,
        samples_failed=log.samples_failed,
        sample_errors=list(log.sample_errors),
        scores=dict(log.scores),
        error=log.error,
        created=None if log.created is None else log.created.isoformat(timespec="seconds"),
        log=log.path,
        known_by=known_by,
    )


def worst(results: Iterable[EvalResult]) -> EvalResult | None:
    """The one that decides how the eval went; None if there is none."""
    return min(results, key=lambda result: (result.succeeded, _rank(result.status)), default=None)


def _rank(status: str) -> int:
    return _WORST_FIRST.index(status) if status in _WORST_FIRST else 0


def _shown(name: str, value: object) -> tuple[str, Any]:
    """An argument as it can be kept: numbers as they are, the rest as text, masked if it looks like a secret."""
    if isinstance(value, int) and abs(value) >= _LARGEST_INTEGER:
        value = str(value)
    if value is None or isinstance(value, bool | int | float):
        return _encodable(name), value
    text = _encodable(value if isinstance(value, str) else json.dumps(value))
    return _encodable(name), text if masked(f"{name}={text}") == f"{name}={text}" else "***"


def _encodable(text: str) -> str:
    """Without the halves of pairs that JSON's escapes may give, and no file can hold."""
    return text.encode(errors="replace").decode()


def whole_s(result: EvalResult | None, elapsed_s: float | None) -> float | None:
    """How long all samples would take at the pace of those that were finished; None where that is not known."""
    if result is None or elapsed_s is None or not result.samples_completed or not result.samples_total:
        return None
    done = result.samples_completed / result.samples_total
    return elapsed_s / done if done < 1 else None


def as_mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def as_arguments(value: object) -> Mapping[str, Any] | None:
    """The value if it is a JSON object, unless it is long, without what looks like a secret."""
    if isinstance(value, dict):
        with suppress(ValueError, RecursionError):
            if len(json.dumps(value)) <= _ARGUMENTS_AT_MOST_CHARS:
                return dict(starmap(_shown, value.items()))
    return None


def as_error(message: object) -> str | None:
    """The value if it is a text, cut, without what looks like a secret."""
    return masked(_encodable(message[:_ERROR_LIMIT])) or None if isinstance(message, str) else None


def as_name(value: object) -> str | None:
    """The value if it is a text, cut at a length that no name has."""
    return _encodable(value[:_NAME_LIMIT]) if isinstance(value, str) else None


def as_count(value: object) -> int | None:
    """The value if it can be a number of things."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def as_number(value: object) -> float | None:
    """The value if it is a finite number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if abs(value) <= _LARGEST else None


def in_words(scores: Mapping[str, float | None]) -> Iterator[tuple[str, str]]:
    """Each score as people read it; what is not a number is `nan`."""
    return ((name, "nan" if value is None else f"{value:g}") for name, value in scores.items())
