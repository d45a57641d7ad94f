"""Reads the logs of inspect-ai: `.eval` archives and `.json` logs, which grow while an eval runs. Pure.

The text of a header is `header.json` of an archive, `_journal/start.json` while it has none, or a whole `.json` log, in
which the samples come last. inspect-ai exits 0 although the eval ended in an error: only the log tells. Facts from
`log/_log.py` of inspect-ai 0.3.285.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

from evalmon_agent.evidence.json_members import Take, Wanted, elements, members
from evalmon_agent.evidence.kinds.kind import Kind, LogFile
from evalmon_agent.evidence.result import (
    SCORES_AT_MOST,
    STARTED,
    STATUSES,
    EvalLog,
    UnreadableLogError,
    as_count,
    as_mapping,
    as_name,
    as_number,
    digest,
)

_ARCHIVE = ".eval"
_HEADER, _START, _SUMMARIES = _MEMBERS = ("header.json", "_journal/start.json", "summaries.json")
_ERROR_LIMIT = 2000
_WANTED: Wanted = {
    "status": Take.VALUE,
    "eval": {
        "created": Take.VALUE,
        "task": Take.VALUE,
        "model": Take.VALUE,
        "task_args": Take.TEXT,
        "dataset": {"samples": Take.VALUE, "sample_ids": Take.COUNT},
        "config": {"epochs": Take.VALUE},
    },
    "results": {"total_samples": Take.VALUE, "completed_samples": Take.VALUE, "scores": Take.VALUE},
    "stats": {"completed_at": Take.VALUE},
    "error": {"message": Take.VALUE},
}


def interpret(header: bytes, *, sample_count: int | None = None) -> EvalLog | None:
    """A log's header; None if it is not the header of a log that inspect-ai wrote.

    Args:
        header: the JSON text, whole or its beginning.
        sample_count: how many samples the archive holds: those completed, while the eval runs and after a kill.
    """
    found = members(header, _WANTED)
    spec = found.get("eval")
    if not isinstance(spec, dict):
        return None
    status = found.get("status", STARTED)
    # What comes after the results is missing: a log that was cut off before its end.
    is_torn = status != STARTED and "stats" not in found
    if status not in STATUSES or is_torn:
        return None
    results = as_mapping(found.get("results"))
    completed = as_count(results.get("completed_samples"))
    total = as_count(results.get("total_samples"))
    return EvalLog(
        status=status,
        created=_time(spec.get("created")),
        task=as_name(spec.get("task")),
        model=as_name(spec.get("model")),
        subject=digest(spec.get("task"), spec.get("model"), spec.get("task_args")),
        samples_completed=sample_count if completed is None and status == STARTED else completed,
        samples_total=_planned(spec) if total is None else total,
        scores=_scores(results.get("scores")),
        error=_error(as_mapping(found.get("error")).get("message")),
    )


def completed_samples(summaries: bytes) -> int | None:
    """The samples without an error in `summaries.json`: an eval that failed has no results to tell their number."""
    entries = elements(summaries, {"error": Take.VALUE})
    return None if entries is None else sum(1 for entry in entries if "error" not in entry)


def _planned(spec: Mapping[str, Any]) -> int | None:
    """Samples times epochs; the ids are those that were selected, `samples` is the size of the data set."""
    dataset = as_mapping(spec.get("dataset"))
    samples = as_count(dataset.get("sample_ids"))
    if samples is None:
        samples = as_count(dataset.get("samples"))
    epochs = as_count(as_mapping(spec.get("config")).get("epochs")) or 1
    return None if samples is None else samples * epochs


def _scores(scores: object) -> dict[str, float]:
    """One entry for each metric of each scorer; those with several reducers carry the reducer's name as well."""
    entries = [entry for entry in scores if isinstance(entry, dict)] if isinstance(scores, list) else []
    names = [as_name(entry.get("name")) or "unknown" for entry in entries]
    found: dict[str, float] = {}
    for name, entry in zip(names, entries, strict=True):
        reducer = as_name(entry.get("reducer"))
        label = f"{name}[{reducer}]" if reducer and names.count(name) > 1 else name
        for metric, value in _metrics(entry.get("metrics")):
            if len(found) < SCORES_AT_MOST:
                found[f"{label}/{as_name(metric)}"] = value
    return found


def _metrics(metrics: object) -> Iterable[tuple[str, float]]:
    for name, metric in as_mapping(metrics).items():
        value = as_number(as_mapping(metric).get("value"))
        if value is not None:
            yield name, value


def _error(message: object) -> str | None:
    return message[:_ERROR_LIMIT] or None if isinstance(message, str) else None


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    # Old versions wrote local time without a zone: where that was nobody knows.
    return time if time.tzinfo else None


def _read(file: LogFile) -> EvalLog | None:
    if not file.name.endswith(_ARCHIVE):
        # In a `.json` log the samples come last: its beginning says it all.
        return interpret(file.text())
    header = file.member(_HEADER) or file.member(_START)
    log = interpret(header, sample_count=file.sample_count) if header else None
    if log is None or log.samples_completed is not None or log.status == STARTED:
        return log
    del header
    with suppress(UnreadableLogError):
        if summaries := file.member(_SUMMARIES):
            return replace(log, samples_completed=completed_samples(summaries))
    return log


INSPECT_AI = Kind(
    name="inspect-ai",
    runs=re.compile(r"\binspect\s+(?:eval|eval-set|eval-retry)\b|\binspect_ai\b"),
    programs=frozenset({"inspect"}),
    log_dir=re.compile(r"--log-dir[= ]\s*|\bINSPECT_LOG_DIR="),
    folders=("logs", "."),
    files=re.compile(r"[^.].*\.(?:eval|json)"),
    begin=re.compile(rb'\s*\{\s*"(?:version|status|eval)"\s*:'),
    archive=_ARCHIVE,
    members=frozenset(_MEMBERS),
    read=_read,
)
