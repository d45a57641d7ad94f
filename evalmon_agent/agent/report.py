"""A job's own report, `jobs/{jobid}.json`: attempts, and the commands of each. Pure: records in, JSON out.

What other versions of evalmon added to an entry stays in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard, overload

from .job import Job

SCHEMA = 1

# A script that calls `run` in a loop must not make its report grow without end.
_COMMANDS_AT_MOST = 1000

# Nor must one whose evals are many, or a job that is requeued again and again.
_PROGRAMS_BYTES_AT_MOST = 512 * 1024
_ATTEMPTS_WITH_PROGRAMS = 5

# Two runs with these alike belong to one incarnation of the job; a requeue, or a later job with a recycled
# id, differs in some.
_SAME_ATTEMPT = ("restart", "token", "host", "boot_id", "time_limit_end", "scope")


@dataclass(kw_only=True, slots=True)
class Run:
    """What one `run` knows of its command. Stamps are epoch seconds, `elapsed_s` is monotonic."""

    program: str
    pid: int
    started_at: float
    ended_at: float | None = None
    elapsed_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    sampler_status: bytes = b""
    """JSON of SamplerStatus.entry; empty while the command runs, and if the sampler said nothing."""
    sampler_trouble: str = ""
    """Why there was no sampler, or how it ended other than by itself."""
    observed_evals: bytes = b""
    """JSON of `witness` and `programs`, see witness.py; empty if nothing looked."""

    def command(self) -> dict[str, Any]:
        """The entry in `commands`: the program's name and never its arguments, which may hold secrets."""
        return {
            "program": without_surrogates(self.program.rpartition("/")[2]),
            "pid": self.pid,
            "started_at": self.started_at,
            **self.end(),
        }

    def end(self) -> dict[str, Any]:
        """How and when it ended."""
        return {
            "ended_at": self.ended_at,
            "elapsed_s": self.elapsed_s,
            "exit_code": self.exit_code,
            "signal": self.signal,
        }


def new_report(job: Job, *, job_id: str, uid: int) -> dict[str, Any]:
    """A report with no attempt in it."""
    return {
        "schema": SCHEMA,
        "job_id": job_id,
        "raw_id": job.raw_id,
        "cluster": without_surrogates(job.cluster),
        "name": None,
        "job_name": None,
        "uid": uid,
        "attempts": [],
    }


def is_report(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether this has the shape of a report, of this or a newer schema."""
    if not isinstance(value, dict) or not isinstance(value.get("schema"), int):
        return False
    attempts = value.get("attempts")
    return isinstance(attempts, list) and all(
        isinstance(attempt, dict)
        and isinstance(attempt.get("notes"), list)
        and isinstance(attempt.get("commands"), list)
        and all(isinstance(command, dict) for command in attempt["commands"])
        for attempt in attempts
    )


def enter(
    report: dict[str, Any], attempt: dict[str, Any], run: Run, *, notes: list[str], observed: Mapping[str, Any]
) -> None:
    """Write what `run` knows into `report`; a later call replaces the entry.

    Args:
        report: as new_report gives it, or as it was read back.
        attempt: the attempt's facts without its end; `scope` says whether the command's end is the attempt's.
        run: the command.
        notes: what went wrong in evalmon.
        observed: `witness` and `programs`, as the witness gives them; empty if nothing looked.
    """
    is_job = attempt["scope"] == "job"
    entry = _attempt_in(report["attempts"], attempt, started_at=run.started_at if is_job else None)
    entry.update(attempt)
    entry["started_at"] = entry.get("started_at") or run.started_at
    entry.update(run.end() if is_job else dict.fromkeys(run.end()))
    entry["notes"] = [
        *entry.get("notes", ()),
        *(note for note in notes if note not in entry.get("notes", ())),
    ]
    witness = {"witness": observed["witness"]} if observed else {}
    entry["commands"] = _with_command(entry.get("commands", []), run.command() | witness)
    if observed:
        _enter_programs(report["attempts"], entry, observed["programs"])


def _enter_programs(attempts: list[dict[str, Any]], entry: dict[str, Any], programs: list[dict[str, Any]]) -> None:
    """Enter each program once: several runs of one job may have seen it."""
    by_process = {_process_of(program): program for program in (*entry.get("programs", ()), *programs)}
    kept, size = [], 0
    for program in reversed(by_process.values()):
        size += len(repr(program))
        if size <= _PROGRAMS_BYTES_AT_MOST:
            kept.append(program)
    entry["programs"] = kept[::-1]
    entry["programs_left_out"] = entry.get("programs_left_out", 0) + len(by_process) - len(kept)
    for earlier in attempts[:-_ATTEMPTS_WITH_PROGRAMS]:
        earlier.pop("programs", None)


def _process_of(program: dict[str, Any]) -> tuple[object, object]:
    return program.get("pid"), program.get("start_ticks")


def _attempt_in(attempts: list[dict[str, Any]], facts: dict[str, Any], *, started_at: float | None) -> dict[str, Any]:
    """The entry of this attempt (and, if given, of this start); a new one if there is none."""
    attempt: dict[str, Any]
    for attempt in reversed(attempts):
        is_same_run = started_at is None or attempt.get("started_at") == started_at
        if is_same_run and all(attempt.get(key) == facts[key] for key in _SAME_ATTEMPT):
            return attempt
    attempt = {}
    attempts.append(attempt)
    return attempt


def _with_command(commands: list[dict[str, Any]], command: dict[str, Any]) -> list[dict[str, Any]]:
    key = (command["pid"], command["started_at"])
    for entry in commands:
        if (entry.get("pid"), entry.get("started_at")) == key:
            entry.update(command)
            return commands
    return [*commands, command][-_COMMANDS_AT_MOST:]


@overload
def without_surrogates(text: str) -> str: ...
@overload
def without_surrogates(text: None) -> None: ...
def without_surrogates(text: str | None) -> str | None:
    """The text with U+FFFD for bytes that are not UTF-8 (lone surrogates), which strict readers refuse."""
    return None if text is None else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def sampler_notes(entry: dict[str, Any]) -> list[str]:
    """The problems for the report's notes; having no GPU is not a problem."""
    notes = [f"sampler: {trouble}" for trouble in entry["troubles"]]
    ended = entry.get("ended", "")
    if not entry.get("not_sampled") and ended != "SIGTERM":
        notes.append(f"sampler: {ended or 'ended without a word'}")
    return notes
