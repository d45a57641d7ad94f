"""How is an event written: the blocks of monitor.log, to the letter of the user's text.

A block is its lines, the head first; `join` puts the one blank line between two. Every name and every other
outside text passes `printable`, so one event can never forge another line.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping

from evalmon_agent.evidence.diagnosis.causes import meaning
from evalmon_agent.evidence.diagnosis.record import Diagnosis, one_line
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.figures.efficiency import Figures
from evalmon_agent.words.durations import clock, human, total
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import human_bytes
from evalmon_agent.words.states import State

UNKNOWN = "unknown"
_ACTION = "Action: Updated run state"
_ALWAYS_POLLED = (State.PENDING, State.RUNNING, State.COMPLETED)
_ALWAYS_COMPLETED = (State.COMPLETED, State.FAILED)
_EXCEEDED = "⚠️ Time limit exceeded — consider increasing eval time limit when re-scaffolding"


def stamp(at: float) -> str:
    """Local time as the log writes it; `unknown` for a time that no calendar has."""
    try:
        local = dt.datetime.fromtimestamp(at).astimezone()
    except (OverflowError, ValueError, OSError):
        return UNKNOWN
    return f"{local:%Y-%m-%d %H:%M:%S}".rjust(19, "0")


def join(blocks: Iterable[list[str]]) -> str:
    """The text to append: each block followed by a blank line."""
    return "".join("\n".join(block) + "\n\n" for block in blocks)


def status_check(now: float, counts: Mapping[State, int]) -> list[str]:
    """STATUS_CHECK, with the three counts that always stand and every other state that occurs."""
    found = sum(counts.values())
    return [
        _head(now, "STATUS_CHECK", "Polling SLURM"),
        f"Result: {found} jobs found - {_counted(counts, _ALWAYS_POLLED)}",
    ]


def state_change(now: float, name: str, job_id: str, *, previous: State, current: State, at: float | None) -> list[str]:
    """STATE_CHANGE into a state that is not terminal; `At:` where the event's own time differs."""
    lines = [
        _head(now, "STATE_CHANGE", name),
        f"Previous: {previous}",
        f"Current: {current}",
        f"Job ID: {printable(job_id)}",
        _ACTION,
    ]
    return lines if at is None or stamp(at) == stamp(now) else [*lines, f"At: {stamp(at)}"]


def state_change_terminal(
    now: float,
    name: str,
    job_id: str,
    *,
    previous: State,
    current: State,
    at: float | None,
    elapsed_s: float | None,
    result_log: str | None,
) -> list[str]:
    """STATE_CHANGE into a terminal state."""
    return [
        _head(now, "STATE_CHANGE", name),
        f"Previous: {previous}",
        f"Current: {current}",
        f"Completed: {UNKNOWN if at is None else stamp(at)}",
        f"Elapsed: {UNKNOWN if elapsed_s is None else human(elapsed_s)}",
        _ACTION,
        f"Result log: {UNKNOWN if result_log is None else printable(result_log)}",
        f"Job ID: {printable(job_id)}",
    ]


def compute_metrics(now: float, name: str, job_id: str, figures: Figures, *, state: State) -> list[str]:
    """COMPUTE_METRICS of one attempt; a TIMEOUT is flagged and gets the user's warning."""
    exceeded = state is State.TIMEOUT
    share = "**EXCEEDED**" if exceeded else _percent(figures.time_efficiency_pct, digits=0)
    lines = [
        _head(now, "COMPUTE_METRICS", name),
        f"Job ID: {printable(job_id)}",
        f"GPU Time: {_clock(figures.elapsed_s)} / {_clock(figures.time_limit_s)} ({share})",
    ]
    if exceeded:
        lines.append(_EXCEEDED)
    return [
        *lines,
        f"Memory: {human_bytes(figures.memory_used_bytes)} / {human_bytes(figures.memory_requested_bytes)}",
        f"CPU Efficiency: {_percent(figures.cpu_efficiency_pct, digits=2)}",
    ]


def resource_status(
    now: float,
    name: str,
    *,
    utilization_pct: float,
    memory_used_mib: float,
    memory_total_mib: float,
    so_far: EvalResult | None = None,
) -> list[str]:
    """RESOURCE_STATUS of a running eval: mean utilization, summed memory over its GPUs; how far its log says it is."""
    used, whole = memory_used_mib / 1024, memory_total_mib / 1024
    return [
        _head(now, "RESOURCE_STATUS", name),
        f"GPU Utilization: {utilization_pct:.0f}% | GPU Memory: {used:.1f}/{whole:.1f} GB",
        *([] if so_far is None or so_far.samples_total is None else [_samples(so_far)]),
    ]


def eval_result(now: float, name: str, job_id: str, result: EvalResult | None) -> list[str]:
    """EVAL_RESULT: what the eval's own log says; None: it should have one, and none was found."""
    if result is None:
        return note(now, "EVAL_RESULT", name, {"Job ID": job_id, "Status": UNKNOWN, "Log": "none was found"})
    fields = {
        "Job ID": job_id,
        "Status": result.status,
        "Samples": f"{_number(result.samples_completed)} of {_number(result.samples_total)}",
        **({"Scores": ", ".join(f"{key} {value:g}" for key, value in result.scores.items())} if result.scores else {}),
        **({"Error": result.error} if result.error else {}),
        "Log": result.log or UNKNOWN,
    }
    return note(now, "EVAL_RESULT", name, fields)


def diagnosis(now: float, name: str, job_id: str, found: Diagnosis) -> list[str]:
    """DIAGNOSIS: why an attempt failed; several last lines stand on one."""
    fields = {
        "Job ID": job_id,
        "Cause": f"{found.cause} ({meaning(found.cause)})",
        "Evidence": UNKNOWN if found.evidence is None else one_line(found.evidence),
        **({"Advice": found.advice} if found.advice else {}),
    }
    return note(now, "DIAGNOSIS", name, fields)


def all_complete(now: float, counts: Mapping[State, int], *, total_time_s: float | None) -> list[str]:
    """ALL_COMPLETE: every eval is terminal."""
    return [
        _head(now, "ALL_COMPLETE", "Monitoring finished"),
        f"Summary: {sum(counts.values())} evaluations completed - {_counted(counts, _ALWAYS_COMPLETED)}",
        f"Total time: {UNKNOWN if total_time_s is None else total(total_time_s)}",
    ]


def note(now: float, kind: str, subject: str, fields: Mapping[str, str]) -> list[str]:
    """A block of our own in the same shape: MONITOR_STARTED, ALERT, QUERY_ERROR and the like."""
    return [_head(now, kind, subject), *(f"{key}: {printable(value)}" for key, value in fields.items())]


def _head(now: float, kind: str, subject: str) -> str:
    return f"[{stamp(now)}] {kind}: {printable(subject)}"


def _counted(counts: Mapping[State, int], always: tuple[State, ...]) -> str:
    others = [state for state in State if state not in always and counts.get(state)]
    return ", ".join(f"{counts.get(state, 0)} {state}" for state in [*always, *others])


def _samples(result: EvalResult) -> str:
    return f"Samples: {_number(result.samples_completed)} of {_number(result.samples_total)}"


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else str(value)


def _clock(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else clock(seconds)


def _percent(value: float | None, *, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}%"
