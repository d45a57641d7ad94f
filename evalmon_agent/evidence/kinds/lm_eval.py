"""lm-evaluation-harness: `results_{time}.json`, in a directory called after the model. Pure.

Facts from lm_eval 0.4.13, `loggers/evaluation_tracker.py` and `evaluator.py`. The file is written once, after the last
sample, and only with `--output_path`: it being there is the success, and while the eval runs it tells nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from evalmon_agent.evidence.json_pieces import whole
from evalmon_agent.evidence.kinds.kind import Kind, LogFile, ObservedProgram
from evalmon_agent.evidence.result import (
    SCORES_AT_MOST,
    SUCCESS,
    EvalLog,
    as_arguments,
    as_count,
    as_mapping,
    as_name,
    as_number,
)
from evalmon_agent.words import eval_processes

# What else stands among a task's metrics.
_NO_METRICS = frozenset({"sample_len", "sample_count", "samples"})
_WHEN = r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d+"


def interpret(text: Iterable[bytes], *, modified_at: float) -> EvalLog | None:
    """A results file; None if it is none, or not whole. `modified_at`: versions without a `date` begin there."""
    values = as_mapping(whole(text))
    results, config = as_mapping(values.get("results")), values.get("config")
    if not results or not isinstance(config, dict):
        return None
    samples = _samples(values.get("n-samples"))
    tasks = ", ".join(results)
    return EvalLog(
        status=SUCCESS,
        created=_time(values.get("date"), modified_at),
        task=as_name(tasks),
        model=as_name(values.get("model_name")) or as_name(config.get("model")),
        samples_completed=samples,
        samples_total=samples,
        scores=dict(_scores(results)),
        model_args=_model_args(config.get("model_args")),
    )


def _model_args(args: object) -> Mapping[str, Any] | None:
    """An object, or a text like `pretrained=/model,dtype=float16`."""
    if isinstance(args, str):
        return as_arguments({name: value for name, _, value in (pair.partition("=") for pair in args.split(","))})
    return as_arguments(args)


def _scores(results: object) -> Iterator[tuple[str, float | None]]:
    """`task/metric,filter` as lm_eval calls them, None for NaN; an unknown standard error is the text "N/A"."""
    left = SCORES_AT_MOST
    for task, metrics in as_mapping(results).items():
        for metric, value in as_mapping(metrics).items():
            is_score = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
            if is_score and metric not in _NO_METRICS and left > 0:
                left -= 1
                yield f"{as_name(task)}/{as_name(metric)}", as_number(value)


def _samples(counts: object) -> int | None:
    """Of all tasks those that were asked for: `effective` is `original` cut by `--limit`."""
    per_task = [as_count(as_mapping(count).get("effective")) for count in as_mapping(counts).values()]
    total = sum(count for count in per_task if count is not None)
    return None if not per_task or None in per_task else total


def _time(date: object, modified_at: float) -> datetime | None:
    at = as_number(date)
    try:
        return datetime.fromtimestamp(modified_at if at is None else at, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return None


def _read(file: LogFile) -> EvalLog | None:
    return interpret(file.text(), modified_at=file.modified_at)


def _agrees(program: ObservedProgram, log: EvalLog) -> bool:
    """By the arguments of the model; not by tasks, since a tag stands for tasks of other names."""
    return program.has_arguments("model_args", log.model_args)


def _names_task(program: ObservedProgram, log: EvalLog) -> bool | None:
    names = {name.strip() for value in program.values("tasks") for name in value.split(",")}
    return not names.isdisjoint((log.task or "").split(", ")) if names else None


LM_EVAL = Kind(
    name=eval_processes.LM_EVAL.kind,
    runs=re.compile(r"(?<![\w./-])lm[-_]eval\b(?!\.)|\bpython3?\s+(?:\S+\s+)*-m\s+lm_eval\b|/bin/lm[-_]eval\b"),
    program=eval_processes.LM_EVAL,
    is_nested=True,
    files=re.compile(rf"results\.json|results_{_WHEN}\.json|[^.].*_{_WHEN}\.json"),
    begin=re.compile(rb'\s*\{\s*"results"\s*:'),
    agrees=_agrees,
    names_task=_names_task,
    read=_read,
)
