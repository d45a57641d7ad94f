"""Names and writes the blocks of monitor.log, in the exact form that docs/files.md promises, and reads them back.

A block is its lines, the head first; `join` puts the one blank line between two. Every name and every other
outside text passes `printable`, so one event can never forge another line.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from evalmon_agent.evidence.diagnosis.causes import Diagnosis, one_line, phrase
from evalmon_agent.evidence.result import SUCCESS, EvalResult, in_words
from evalmon_agent.figures import Figures, sampled_memory_note
from evalmon_agent.words.durations import clock, human, total
from evalmon_agent.words.job_id import JobId, parse_job_id
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import counted, human_bytes
from evalmon_agent.words.states import State


@enum.unique
class BlockKind(enum.Enum):
    """Every kind of block, and when it is logged: the table in docs/files.md (`scripts/docs`)."""

    STATUS_CHECK = "each poll"
    STATE_CHANGE = "each transition of an eval, once, also for what happened while nobody watched"
    COMPUTE_METRICS = "once for each attempt that ran and ended"
    EVAL_RESULT = "with it, once for each log of the attempt's own: what it says; else why no result is known"
    DIAGNOSIS = (
        "with it, once for each attempt that failed or is suspect and is not run again: cause, the line that shows it, "
        "advice. An eval that ends before it ran has it with its `STATE_CHANGE`"
    )
    RESOURCE_STATUS = (
        "every fifth poll (`gpu_status_every`), for running evals with fresh numbers in `gpu_metrics.csv`; "
        "`Samples: 6 of 12` if the eval's log says it"
    )
    ALL_COMPLETE = "once, when all evals are over and measured; again after evals were added later"
    VERDICT_CHANGED = "an eval's verdict changed after `ALL_COMPLETE`: old, new, and why"
    COMPLETION_SUBMITTED = "a completion job was submitted"
    MONITOR_STARTED = "a sidecar began"
    MONITOR_STOPPED = (
        "a sidecar ended, with the reason; `evalmon stop`; a completion job ended because another directory stands "
        "where `EXP/evalmon` was"
    )
    MONITOR_CONFIG = "a running sidecar has loaded changed settings, or it or a completion job refused invalid ones"
    QUERY_ERROR = "a poll failed"
    QUERY_RECOVERED = "Slurm is back after an `ALERT`"
    ALERT = (
        "once each: `alert_after` polls in a row failed; an eval ran for two polls without a report of its own; an "
        "eval waits for something that will not happen by itself (it is held, its dependency can never be satisfied, "
        "its nodes or licences are away), per job and reason, with Slurm's reason and what to do; evals wait to be "
        "submitted and the monitor jobs cannot submit them, with the command to run; an eval's script changed after "
        "it was planned; Slurm refused evals, with its words; `state.json` could not be read"
    )
    NOTIFICATION_FAILED = (
        "a notification could not be sent: why (once per target, until it can); it is kept, and sent by the "
        "next monitor job or command that can"
    )
    NOTIFICATION_RECOVERED = "notifications to that target are sent again"
    SUBMISSION_WAITS = "the site accepts no more jobs for now: how many evals wait, and Slurm's message (once)"


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
    """STATUS_CHECK, with the three counts that are always shown and every other state that occurs."""
    found = sum(counts.values())
    return [
        _head(now, BlockKind.STATUS_CHECK, "Polling SLURM"),
        f"Result: {counted(found, 'job')} found - {_counted(counts, _ALWAYS_POLLED)}",
    ]


def state_change(
    now: float, name: str, job_id: JobId, *, previous: State, current: State, at: float | None
) -> list[str]:
    """STATE_CHANGE into a state that is not terminal; `At:` where the event's own time differs."""
    lines = [
        _head(now, BlockKind.STATE_CHANGE, name),
        f"Previous: {previous}",
        f"Current: {current}",
        f"Job ID: {printable(job_id)}",
        _ACTION,
    ]
    return lines if at is None or stamp(at) == stamp(now) else [*lines, f"At: {stamp(at)}"]


def state_change_terminal(
    now: float,
    name: str,
    job_id: JobId,
    *,
    previous: State,
    current: State,
    at: float | None,
    elapsed_s: float | None,
    result_log: str | None,
) -> list[str]:
    """STATE_CHANGE into a terminal state; `result_log`: None if it is unknown, "" if there is none."""
    where = UNKNOWN if result_log is None else printable(result_log)
    return [
        _head(now, BlockKind.STATE_CHANGE, name),
        f"Previous: {previous}",
        f"Current: {current}",
        f"Completed: {UNKNOWN if at is None else stamp(at)}",
        f"Elapsed: {human(elapsed_s)}",
        _ACTION,
        *([f"Result log: {where}"] if where else []),
        f"Job ID: {printable(job_id)}",
    ]


def compute_metrics(now: float, name: str, job_id: JobId, figures: Figures, *, state: State) -> list[str]:
    """COMPUTE_METRICS of one attempt; a TIMEOUT is flagged and gets the user's warning."""
    exceeded = state is State.TIMEOUT
    share = "**EXCEEDED**" if exceeded else _percent(figures.time_efficiency_pct, digits=0)
    lines = [
        _head(now, BlockKind.COMPUTE_METRICS, name),
        f"Job ID: {printable(job_id)}",
        f"GPU Time: {clock(figures.elapsed_s)} / {clock(figures.time_limit_s)} ({share})",
    ]
    if exceeded:
        lines.append(_EXCEEDED)
    used, requested = figures.memory_used_bytes, figures.memory_requested_bytes
    sampled = sampled_memory_note(used, requested) if state is State.OUT_OF_MEMORY else ""
    return [
        *lines,
        f"Memory: {human_bytes(used)} / {human_bytes(requested)}",
        f"CPU Efficiency: {_percent(figures.cpu_efficiency_pct, digits=2)}",
        *([f"Note: {sampled}"] if sampled else []),
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
        _head(now, BlockKind.RESOURCE_STATUS, name),
        f"GPU Utilization: {utilization_pct:.0f}% | GPU Memory: {used:.1f}/{whole:.1f} GB",
        *([] if so_far is None or so_far.samples_total is None else [f"Samples: {so_far.samples}"]),
    ]


def eval_result(now: float, name: str, job_id: JobId, result: EvalResult) -> list[str]:
    """EVAL_RESULT: what one of the eval's own logs says."""
    is_unscored = result.status == SUCCESS and not result.scores
    fields = {
        "Job ID": job_id,
        **({"Task": result.task} if result.task else {}),
        **({"Model": result.model} if result.model else {}),
        "Status": result.status,
        "Samples": result.samples,
        **({"Scores": ", ".join(map(" ".join, in_words(result.scores)))} if result.scores else {}),
        **({"Scores": "not scored"} if is_unscored else {}),
        **({"Error": result.error} if result.error else {}),
        "Log": result.log or UNKNOWN,
    }
    return note(now, BlockKind.EVAL_RESULT, name, fields)


def result_unknown(now: float, name: str, job_id: JobId, why: str | None) -> list[str]:
    """EVAL_RESULT: an eval began whose log is not known, and why; None: it left none."""
    reason = {"Reason": why} if why is not None else {}
    fields = {"Job ID": job_id, "Status": UNKNOWN, "Log": UNKNOWN if why is not None else "none was found", **reason}
    return note(now, BlockKind.EVAL_RESULT, name, fields)


def verdict_changed(now: float, name: str, job_id: JobId, *, previous: str, current: str, why: str) -> list[str]:
    """VERDICT_CHANGED: the verdict is another one than the log last had."""
    fields = {"Previous": previous, "Current": current, "Job ID": job_id, "Reason": why}
    return note(now, BlockKind.VERDICT_CHANGED, name, fields)


def diagnosis(now: float, name: str, job_id: JobId, found: Diagnosis) -> list[str]:
    """DIAGNOSIS: why an attempt failed; several last lines are joined into one."""
    fields = {
        "Job ID": job_id,
        "Cause": f"{found.cause} ({phrase(found.cause)})",
        "Evidence": UNKNOWN if found.evidence is None else one_line(found.evidence),
        **({"Advice": found.advice} if found.advice else {}),
    }
    return note(now, BlockKind.DIAGNOSIS, name, fields)


def all_complete(now: float, counts: Mapping[State, int], *, total_time_s: float | None, outcome: str) -> list[str]:
    """ALL_COMPLETE: every eval is terminal. `outcome`: the verdict in words."""
    return [
        _head(now, BlockKind.ALL_COMPLETE, "Monitoring finished"),
        f"Summary: {counted(sum(counts.values()), 'evaluation')} completed - {_counted(counts, _ALWAYS_COMPLETED)}",
        f"Total time: {total(total_time_s)}",
        f"Outcome: {printable(outcome)}",
    ]


def note(now: float, kind: BlockKind, subject: str, fields: Mapping[str, str]) -> list[str]:
    """A further block of evalmon in the same shape."""
    return [_head(now, kind, subject), *(f"{key}: {printable(value)}" for key, value in fields.items())]


def _head(now: float, kind: BlockKind, subject: str) -> str:
    return f"[{stamp(now)}] {kind.name}: {printable(subject)}"


def _counted(counts: Mapping[State, int], always: tuple[State, ...]) -> str:
    others = [state for state in State if state not in always and counts.get(state)]
    return ", ".join(f"{counts.get(state, 0)} {state}" for state in [*always, *others])


def _percent(value: float | None, *, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}%"


_HEAD = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] (?P<kind>[A-Z_]+): (?P<subject>.*)")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its kind, its subject as printed, and its `Key: value` lines.

    `kind` is None where another version of evalmon wrote one that this one does not know.
    """

    kind: BlockKind | None
    subject: str
    fields: dict[str, str]

    @property
    def job_id(self) -> JobId | None:
        """The job that it is about, None if it names none."""
        return parse_job_id(self.fields.get("Job ID", ""))


def blocks_in(text: str) -> Iterator[Block]:
    """The whole blocks of a log; a torn last one, without its blank line, is left out."""
    for chunk in text.split("\n\n")[:-1]:
        head, *lines = chunk.strip("\n").split("\n")
        match = _HEAD.fullmatch(head)
        if match is not None:
            pairs = (line.partition(": ") for line in lines)
            fields = {key: value for key, colon, value in pairs if colon}
            yield Block(BlockKind.__members__.get(match["kind"]), match["subject"], fields)


def transition(block: Block) -> tuple[JobId, State] | None:
    """(job id, current state) of a STATE_CHANGE."""
    if block.kind is not BlockKind.STATE_CHANGE or block.job_id is None:
        return None
    current = block.fields.get("Current", "")
    return (block.job_id, State(current)) if current in State.__members__ else None
