"""Reads the logs of inspect-ai: `.eval` archives and `.json` logs, which grow while an eval runs. Pure.

The text of a header is `header.json` of an archive, `_journal/start.json` while it has none, or a whole `.json` log, in
which the samples come last. inspect-ai exits 0 although the eval ended in an error: only the log tells. Facts from
`log/_log.py` of inspect-ai 0.3.285.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from evalmon_agent.evidence.diagnosis.diagnose import cause_of_error
from evalmon_agent.evidence.diagnosis.output import written
from evalmon_agent.evidence.json_pieces import before_array, objects, whole
from evalmon_agent.evidence.kinds.kind import Kind, LogFile, ObservedProgram
from evalmon_agent.evidence.normalised import normalised
from evalmon_agent.evidence.result import (
    SCORES_AT_MOST,
    STARTED,
    STATUSES,
    EvalLog,
    SampleError,
    UnreadableLogError,
    as_arguments,
    as_count,
    as_error,
    as_mapping,
    as_name,
    as_number,
)
from evalmon_agent.words.eval_processes import INSPECT

_ARCHIVE = ".eval"
_HEADER, _START, _SUMMARIES = _MEMBERS = ("header.json", "_journal/start.json", "summaries.json")
_SAMPLES = "samples"
# Of a sample that was cut off because another one failed (`is_cancellation_message` in inspect-ai's _util/error.py).
_IS_CANCELLED = re.compile(r"Cancelled(?:Error)?\(")
_ERRORS_SHOWN = 5
_ERRORS_AT_MOST = 200
_MESSAGES_AT_MOST = 20_000
_MESSAGE_CHARS = 400
# Numbers that `normalised` takes out in any case: most messages need not be normalised one by one.
_LARGE_NUMBER = re.compile(r"(?<![\w.-])(?:\d{5,}|\d+\.\d+)(?![\w.])")


def interpret(header: object, *, sample_count: int | None = None) -> EvalLog | None:
    """A log's header; None if it is not the header of a log that inspect-ai wrote.

    Args:
        header: the JSON value; of a `.json` log without its samples.
        sample_count: how many samples the archive holds: those completed, while the eval runs and after a kill.
    """
    values = as_mapping(header)
    spec, status = values.get("eval"), values.get("status", STARTED)
    if not isinstance(spec, dict) or status not in STATUSES:
        return None
    results = as_mapping(values.get("results"))
    completed = as_count(results.get("completed_samples"))
    total = as_count(results.get("total_samples"))
    return EvalLog(
        status=status,
        created=_time(spec.get("created")),
        task=as_name(spec.get("task")),
        model=as_name(spec.get("model")),
        samples_completed=sample_count if completed is None and status == STARTED else completed,
        samples_total=_planned(spec) if total is None else total,
        scores=_scores(results.get("scores")),
        error=as_error(as_mapping(values.get("error")).get("message")),
        eval_id=as_name(spec.get("eval_id")),
        task_id=as_name(spec.get("task_id")),
        task_file=as_name(spec.get("task_file")),
        model_args=as_arguments(spec.get("model_args")),
    )


def with_samples(log: EvalLog, samples: Iterable[Mapping[str, Any]]) -> EvalLog:
    """The log with what its samples tell: how many failed, were stopped by a limit or, without results, completed.

    `samples`: those of a `.json` log or of an archive's `summaries.json`.
    """
    errors = SampleErrors()
    completed = limited = 0
    for sample in samples:
        limited += sample.get("limit") is not None
        error = sample.get("error")
        if error is None:
            completed += 1
            continue
        message = as_mapping(error).get("message", error)
        if not _IS_CANCELLED.match(str(message)):
            errors.add(message)
    return replace(
        log,
        samples_completed=completed if log.samples_completed is None else log.samples_completed,
        samples_failed=errors.samples,
        sample_errors=errors.most_frequent(),
        samples_limited=limited,
    )


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
        message = message[:_MESSAGE_CHARS]
        key = hash(_LARGE_NUMBER.sub("", message))
        line = self._lines.get(key)
        if line is None:
            if len(self._lines) >= _MESSAGES_AT_MOST:
                return
            line = self._lines[key] = self._line(message)
        if line:
            self._counts[line] += 1

    def _line(self, message: str) -> str:
        """The line by which it is counted; empty if there are too many."""
        line = _one_line(message)
        if line not in self._examples and len(self._examples) >= _ERRORS_AT_MOST:
            return ""
        self._examples.setdefault(line, message)
        return line

    def most_frequent(self) -> tuple[SampleError, ...]:
        """The most frequent ones, each with the cause that its first message shows."""
        errors = []
        for line, samples in self._counts.most_common(_ERRORS_SHOWN):
            error = as_error(self._examples[line]) or ""
            errors.append(SampleError(cause_of_error(error), _one_line(error), samples))
        return tuple(errors)


def _one_line(error: str) -> str:
    # A repr has its line breaks as `\n`.
    return normalised(written(error).text.replace("\\n", " "))


def _planned(spec: Mapping[str, Any]) -> int | None:
    """Samples times epochs; the ids are those that were selected, `samples` is the size of the data set."""
    dataset = as_mapping(spec.get("dataset"))
    ids = dataset.get("sample_ids")
    samples = len(ids) if isinstance(ids, list) else as_count(dataset.get("samples"))
    epochs = as_count(as_mapping(spec.get("config")).get("epochs")) or 1
    return None if samples is None else samples * epochs


def _scores(scores: object) -> dict[str, float | None]:
    """One entry for each metric of each scorer: those that share a name carry reducer, scorer or a number as well."""
    entries = [entry for entry in scores if isinstance(entry, dict)] if isinstance(scores, list) else []
    names = [as_name(entry.get("name")) or "unknown" for entry in entries]
    reducers = [as_name(entry.get("reducer")) for entry in entries]
    scorers = [as_name(entry.get("scorer")) for entry in entries]
    counts = Counter(names)
    labels = [f"{name}[{red}]" if red and counts[name] > 1 else name for name, red in zip(names, reducers, strict=True)]
    counts = Counter(labels)
    labels = [
        f"{scorer}/{label}" if scorer and scorer != name and counts[label] > 1 else label
        for label, scorer, name in zip(labels, scorers, names, strict=True)
    ]
    before: Counter[str] = Counter()
    values: dict[str, float | None] = {}
    for label, entry in zip(labels, entries, strict=True):
        before[label] += 1
        unique = f"{label}#{before[label]}" if before[label] > 1 else label
        for metric, value in as_mapping(entry.get("metrics")).items():
            if len(values) < SCORES_AT_MOST:
                values[f"{unique}/{as_name(metric)}"] = as_number(as_mapping(value).get("value"))
    return values


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    # Old versions wrote local time without a zone: where that was nobody knows.
    return time if time.tzinfo else None


def _read(file: LogFile) -> EvalLog | None:
    if not file.name.endswith(_ARCHIVE):
        header, samples = before_array(file.text(), _SAMPLES)
        log = interpret(header)
    else:
        pieces = file.member(_HEADER) or file.member(_START)
        log = interpret(whole(pieces), sample_count=file.sample_count) if pieces else None
        if log is None or log.status == STARTED:
            return log
        samples = None
    # Samples that cannot be read to their end tell nothing.
    with suppress(UnreadableLogError):
        samples = samples or file.member(_SUMMARIES)
        return with_samples(log, objects(samples)) if log and samples else log
    return log


def _may_hold(word: str, log: EvalLog) -> bool:
    """Whether `file.py@task` or `file.py` may be the log's task; a directory or a log to continue may hold any."""
    file, at, task = word.partition("@")
    if at and log.task is not None and log.task.rpartition("/")[2] != task:
        return False
    is_file_known = file.endswith(".py") and log.task_file is not None
    return not is_file_known or os.path.basename(str(log.task_file)) == os.path.basename(file)


def _agrees(program: ObservedProgram, log: EvalLog) -> bool:
    models = program.values("model")
    return (
        (not models or log.model is None or log.model in models[-1].split(","))
        and (not program.words or any(_may_hold(word, log) for word in program.words))
        and program.has_arguments("model-arg", log.model_args)
    )


INSPECT_AI = Kind(
    name=INSPECT.kind,
    runs=re.compile(r"\binspect\s+(?:eval|eval-set|eval-retry)\b|\binspect_ai\b"),
    program=INSPECT,
    files=re.compile(r"[^.].*\.(?:eval|json)"),
    begin=re.compile(rb'\s*\{\s*"(?:version|status|eval)"\s*:'),
    archive=_ARCHIVE,
    members=frozenset(_MEMBERS),
    closing=re.compile(r"^Log:\s", re.MULTILINE),
    agrees=_agrees,
    read=_read,
)
