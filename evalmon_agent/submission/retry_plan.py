"""Decides which evals are run again: those that did not succeed, unless a usable result is likely to exist. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from evalmon_agent.evidence.diagnosis.causes import returns_for_good
from evalmon_agent.evidence.diagnosis.records import UNKNOWN
from evalmon_agent.evidence.result import UNREADABLE, worst
from evalmon_agent.tracking.records import Eval
from evalmon_agent.tracking.registry import Entry
from evalmon_agent.tracking.results import EvalResults
from evalmon_agent.tracking.verdict import Verdict, diagnosis_of, reason, verdict
from evalmon_agent.words.job_id import parse_array_spec
from evalmon_agent.words.sizes import counted
from evalmon_agent.words.states import State

RETRY_LOG = "EVALMON_RETRY_LOG"
"""The variable that a script looks at to let its eval go on from an earlier log."""

_RESUMABLE = frozenset({"started", "error", "cancelled", "success"})
_UNCERTAIN = {
    State.LOST: "nobody knows how it ended, or whether it did",
    State.REVOKED: "another cluster of the federation runs it",
}


@dataclass(frozen=True, slots=True)
class RetryRequest:
    """What the user asked for.

    `names`: evals, arrays or patterns; none for all. `causes`: only evals that failed for one of them; none for all.
    `changed`: scripts as they are now. `force`: also what succeeded, and what is likely to end in the same way.
    `exclude_nodes`: a list of nodes as sbatch takes it; "" for none. `chosen`: the evals that `names` mean.
    """

    names: Sequence[str] = ()
    causes: Sequence[str] = ()
    failed_only: bool = False
    changed: bool = False
    force: bool = False
    exclude_nodes: str = ""
    max_retries: int = 2
    chosen: Collection[str] = ()

    def means(self, name: str) -> bool:
        """Whether this eval is named, or all are."""
        return not self.names or name in self.chosen

    def insists(self, name: str) -> bool:
        """Whether it is named itself: then it is run again also where that may be for nothing."""
        return name in self.names


@dataclass(frozen=True, slots=True)
class Retry:
    """Run it again.

    `cause`: why it failed, a slug; None if it did not. `log`: its eval's log, if it is one to go on from; `no_log`:
    why there is none.
    """

    reason: str
    cause: str | None = None
    attempt: int = 2
    more_time: bool = False
    more_memory: bool = False
    log: str | None = None
    no_log: str = ""


def decide(
    ev: Eval, entry: Entry | None, found: EvalResults, request: RetryRequest, *, is_waiting: bool
) -> Retry | str:
    """Run it again, or why not ("" if no reason need be given). `entry`: its submission that counts."""
    if is_waiting:
        return "it is already waiting to be submitted"
    if not ev.final:
        return f"it is still {ev.state}" if request.insists(ev.name) else ""
    outcome = verdict(ev, found)
    cause = _cause(ev, found, outcome)
    if request.causes and cause not in request.causes:
        return f"its cause is {cause or 'none'}" if request.insists(ev.name) else ""
    if outcome == "ok" and not request.force:
        return "it succeeded; --force runs it again" if request.insists(ev.name) else ""
    if request.failed_only and outcome != "failed":
        return f"it is {outcome}, not failed"
    why_not = _not_possible(ev, entry, request)
    if not why_not and not request.force and not request.insists(ev.name):
        why_not = _not_worth_it(ev, found, outcome)
    return why_not or _again(ev, found, outcome, cause)


def certain_to_fail(again: Retry, request: RetryRequest, *, is_script_changed: bool) -> str:
    """Why it would fail in the same way once more; "" if that is not certain, or if the user insists."""
    if again.cause is None or not returns_for_good(again.cause) or request.force or is_script_changed:
        return ""
    unchanged = ", and its script has not changed" if request.changed else ""
    return (
        f"{again.reason}: {again.cause} returns until somebody fixes it{unchanged}; once it is fixed, add "
        f"--cause {again.cause} --force{'' if request.changed else ' (or --changed, if the fix is in the script)'}"
    )


def description(again: Retry, request: RetryRequest) -> str:
    """Why it runs again, and which attempt that is: `FAILED: missing-file, attempt 2 of 3`."""
    cause = "" if again.cause is None else f": {'cause unknown' if again.cause == UNKNOWN else again.cause}"
    most = request.max_retries + 1
    of_how_many = f" of {most}" if again.attempt <= most else ""
    from_start = f", from its start: {again.no_log}" if again.no_log else ""
    return f"{again.reason}{cause}, attempt {again.attempt}{of_how_many}{from_start}"


def array_option(tasks: Sequence[int], spec: str) -> str:
    """`--array` for these tasks, with the limit on how many run at once that the script's own spec has."""
    _, percent, limit = spec.partition("%")
    ranges: list[list[int]] = []
    for task in sorted(tasks):
        if ranges and task == ranges[-1][-1] + 1:
            ranges[-1].append(task)
        else:
            ranges.append([task])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in ranges]
    kept = f"{percent}{limit}" if limit and parse_array_spec(f"0%{limit}") is not None else ""
    return f"--array={','.join(parts)}{kept}"


def logs_of(chosen: Mapping[int | None, Retry], script: str) -> dict[int | None, str]:
    """The logs to go on from, by task, if the script knows what to do with one."""
    if RETRY_LOG not in script:
        return {}
    return {task: again.log for task, again in chosen.items() if again.log is not None}


def _cause(ev: Eval, found: EvalResults, outcome: Verdict) -> str | None:
    """Why it failed, as `diagnosis` in summary.json says."""
    if outcome not in {"failed", "suspect"}:
        return None
    diagnosis = diagnosis_of(ev, found)
    return UNKNOWN if diagnosis is None else diagnosis.cause


def _again(ev: Eval, found: EvalResults, outcome: Verdict, cause: str | None) -> Retry:
    succeeded = outcome == "ok"
    is_explained = ev.state is State.COMPLETED and not succeeded
    return Retry(
        reason=_why_not_ok(found) if is_explained else str(ev.state),
        cause=cause,
        attempt=len(ev.jobs) + 1,
        more_time=ev.state is State.TIMEOUT,
        more_memory=ev.state is State.OUT_OF_MEMORY,
        log=None if succeeded else _log_to_go_on_from(found),
    )


def _why_not_ok(found: EvalResults) -> str:
    """Why one that COMPLETED is run again."""
    is_good = all(result.succeeded for result in found.results) and not found.missing and found.unknown is None
    return "its command or its output ended in an error" if is_good else reason(found)


def _log_to_go_on_from(found: EvalResults) -> str | None:
    """The log of the one eval that ran, if that is its own by proof: of several, the others would not be run again."""
    if len(found.results) != 1 or found.missing or found.unknown is not None:
        return None
    [result] = found.results
    is_log = result.known_by is not None and result.status in _RESUMABLE and bool(result.samples_completed)
    return result.log if is_log else None


def _not_possible(ev: Eval, entry: Entry | None, request: RetryRequest) -> str:
    if entry is None or entry.adopted is not None:
        return "evalmon did not submit it; submit its script yourself, then run: evalmon watch"
    if ev.jobs[-1].token != entry.token:
        return "somebody else has already submitted it again"
    if len(ev.jobs) > request.max_retries and not request.force:
        return f"it had {counted(len(ev.jobs), 'attempt')} already; --max-retries {len(ev.jobs)} or --force allows more"
    return ""


def _not_worth_it(ev: Eval, found: EvalResults, outcome: Verdict) -> str:
    """Why running it again may pay a second time for what is there; "" where it does not."""
    result, why = worst(found.results), ""
    if ev.state in _UNCERTAIN:
        why = _UNCERTAIN[ev.state]
    elif outcome == "unverified":
        why = f"it COMPLETED, and its result is unknown: {found.unknown}"
    elif outcome == "suspect" and result is not None and not found.missing:
        if result.succeeded:
            why = f"its log says success with all samples; it is {ev.state}, and suspect, for something else in the job"
        elif result.status == UNREADABLE:
            why = "it COMPLETED, and its log cannot be read"
    return f"{why}; name it to run it again anyway" if why else ""
