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

from evalmon_agent.evidence.json_members import JsonScanner, Take, Wanted
from evalmon_agent.evidence.kinds.kind import Kind, LogFile, ObservedProgram
from evalmon_agent.evidence.result import (
    SCORES_AT_MOST,
    STARTED,
    STATUSES,
    EvalLog,
    UnreadableLogError,
    as_arguments,
    as_count,
    as_error,
    as_mapping,
    as_name,
    as_number,
)
from evalmon_agent.evidence.sample_errors import SampleErrors
from evalmon_agent.words.eval_processes import INSPECT

_ARCHIVE = ".eval"
_HEADER, _START, _SUMMARIES = _MEMBERS = ("header.json", "_journal/start.json", "summaries.json")
_SAMPLES = "samples"
# Of a sample that was cut off because another one failed (`is_cancellation_message` in inspect-ai's _util/error.py).
_IS_CANCELLED = re.compile(r"Cancelled(?:Error)?\(")
_WANTED: Wanted = {
    "status": Take.VALUE,
    "eval": {
        "created": Take.VALUE,
        "task": Take.VALUE,
        "model": Take.VALUE,
        "eval_id": Take.VALUE,
        "task_id": Take.VALUE,
        "task_file": Take.VALUE,
        "task_args": Take.TEXT,
        "model_args": Take.TEXT,
        "dataset": {"samples": Take.VALUE, "sample_ids": Take.COUNT},
        "config": {"epochs": Take.VALUE},
    },
    "results": {"total_samples": Take.VALUE, "completed_samples": Take.VALUE, "scores": Take.VALUE},
    "stats": {"completed_at": Take.VALUE},
    "error": {"message": Take.VALUE},
}


def interpret(header: JsonScanner, *, sample_count: int | None = None) -> EvalLog | None:
    """A log's header; None if it is not the header of a log that inspect-ai wrote.

    Args:
        header: the JSON text, whole or its beginning; of a `.json` log it stops before the samples.
        sample_count: how many samples the archive holds: those completed, while the eval runs and after a kill.
    """
    values = header.members(_WANTED, until=_SAMPLES)
    spec = values.get("eval")
    if not isinstance(spec, dict):
        return None
    status = values.get("status", STARTED)
    # What comes after the results is missing: a log that was cut off before its end.
    is_torn = status != STARTED and "stats" not in values
    if status not in STATUSES or is_torn:
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


def with_samples(log: EvalLog, samples: Iterable[Mapping[str, Any] | None]) -> EvalLog:
    """The log with what its samples tell: how many failed, were stopped by a limit or, without results, completed.

    `samples`: of each, what it has of `error` and `limit`, in a `.json` log or an archive's `summaries.json`. The log
    as it is if they cannot be read to their end.
    """
    errors = SampleErrors()
    completed = limited = 0
    for sample in samples:
        if sample is None:
            return log
        limited += "limit" in sample
        if "error" not in sample:
            completed += 1
            continue
        error = sample["error"]
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


def _planned(spec: Mapping[str, Any]) -> int | None:
    """Samples times epochs; the ids are those that were selected, `samples` is the size of the data set."""
    dataset = as_mapping(spec.get("dataset"))
    samples = as_count(dataset.get("sample_ids"))
    if samples is None:
        samples = as_count(dataset.get("samples"))
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
        text = JsonScanner(file.text())
        log = interpret(text)
        return log and _with_samples(log, text)
    header = file.member(_HEADER) or file.member(_START)
    log = interpret(JsonScanner(header), sample_count=file.sample_count) if header else None
    if log is None or log.status == STARTED:
        return log
    with suppress(UnreadableLogError):
        if summaries := file.member(_SUMMARIES):
            return _with_samples(log, JsonScanner(summaries))
    return log


def _with_samples(log: EvalLog, text: JsonScanner) -> EvalLog:
    with suppress(UnreadableLogError):
        return with_samples(log, text.elements({"error", "limit"}))
    return log


def _may_hold(written: str, log: EvalLog) -> bool:
    """Whether `file.py@task` or `file.py` may be the log's task; a directory or a log to continue may hold any."""
    file, at, task = written.partition("@")
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
