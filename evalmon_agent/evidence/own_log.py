"""Chooses the log that an attempt wrote from those in its directories. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from evalmon_agent.evidence.result import CANCELLED, ERROR, STARTED, SUCCESS, EvalLog

_WORST_FIRST = (ERROR, CANCELLED, STARTED, SUCCESS)


@dataclass(frozen=True, slots=True)
class AttemptSpan:
    """When an attempt ran, and what distinguishes its log from others. Times are epoch seconds."""

    started_at: float
    ended_at: float | None = None
    """None while it runs."""
    slack_s: float = 5.0
    """How far the clock that gave these times may be off from that of the node."""
    task: str | None = None
    """The eval's task, if its name contains it."""
    output: str = ""
    """The end of what the job printed: inspect prints the path of each log that it has finished."""


def pick(logs: Mapping[str, EvalLog], span: AttemptSpan) -> str | None:
    """The path of the attempt's log; None if none of them is.

    1. A log is a candidate if its `created` lies between the attempt's start and end: a directory keeps the logs of
       earlier attempts, and of evals that share it.
    2. If the job's output names some of the candidates, only those count; otherwise, if some are of the attempt's
       task, only those.
    3. Of several tries at the same (task, model and arguments) the newest counts: retries write new logs.
    4. If one job evaluated several things, the worst of them says how it went: error, cancelled, started, success.
    """
    candidates = {path: log for path, log in logs.items() if _is_within(log, span)}
    printed = _unwrapped(span.output)
    named = {path: log for path, log in candidates.items() if _name(path) in printed}
    of_task = {path: log for path, log in candidates.items() if _task_name(log.task) == _task_name(span.task)}
    newest: dict[str, str] = {}
    for path, log in sorted((named or of_task or candidates).items(), key=lambda item: _age(*item)):
        newest[log.subject] = path
    return min(reversed(newest.values()), key=lambda path: _WORST_FIRST.index(logs[path].status), default=None)


def is_printed(path: str, output: str) -> bool:
    """Whether a job's output names this log."""
    return _name(path) in _unwrapped(output)


def _unwrapped(output: str) -> str:
    """Long paths are wrapped at 80 columns."""
    return "".join(output.split())


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_within(log: EvalLog, span: AttemptSpan) -> bool:
    if log.created is None:
        return False
    created_at = log.created.timestamp()
    # `created` is in whole seconds, cut off.
    is_begun = created_at + 1 > span.started_at - span.slack_s
    return is_begun and (span.ended_at is None or created_at <= span.ended_at + span.slack_s)


def _task_name(task: str | None) -> str:
    return (task or "").rpartition("/")[2]


def _age(path: str, log: EvalLog) -> tuple[float, str]:
    return (log.created.timestamp() if log.created else 0.0, path)
