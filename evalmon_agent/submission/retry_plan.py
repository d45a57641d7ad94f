"""Plans retries: which evals are run again, with which options of sbatch, in which submissions. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from evalmon_agent.evidence.diagnosis.causes import UNKNOWN, returns_for_good
from evalmon_agent.evidence.result import UNREADABLE, EvalResult, worst
from evalmon_agent.slurm.sbatch import by_long_name
from evalmon_agent.submission.plan import Prepared, Script, array_option, array_spec
from evalmon_agent.submission.retry_limits import Limits, exclude_options, had_by, memory_options, time_options
from evalmon_agent.tracking.records import Eval
from evalmon_agent.tracking.registry import Entry, Name, Submission
from evalmon_agent.tracking.verdict import UNSUCCESSFUL, EvalResults, Verdict, diagnosis_of, reason, verdict
from evalmon_agent.words.sizes import counted
from evalmon_agent.words.states import State

_RETRY_LOG = b"EVALMON_RETRY_LOG"
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
    `exclude_nodes`: a list of nodes as sbatch takes it; "" for none. `scale_time`, `scale_memory`: the factors, 1 at
    least, for what ran out. `chosen`: the evals that `names` mean.
    """

    names: Sequence[str] = ()
    causes: Sequence[str] = ()
    failed_only: bool = False
    changed: bool = False
    force: bool = False
    exclude_nodes: str = ""
    scale_time: float = 1.5
    scale_memory: float = 1.5
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


@dataclass(frozen=True, slots=True)
class ChosenEval:
    """An eval to run again. `entry`: its submission that counts; `result`: the worst of its last attempt's logs.

    `options`: those of sbatch; `why`: why it is run again, and with what.
    """

    name: Name
    ev: Eval
    entry: Entry
    retry: Retry
    result: EvalResult | None
    options: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class RetryScript:
    """The script to run again. `remark`: a note for the user; `is_changed`: since it was submitted."""

    script: Script
    remark: str = ""
    is_changed: bool = False

    def log_for(self, retry: Retry) -> str | None:
        """The log to go on from, if there is one and the script knows what to do with it."""
        return retry.log if _RETRY_LOG in self.script.content else None


def decide(
    ev: Eval, entry: Entry | None, settled: EvalResults, request: RetryRequest, *, is_waiting: bool
) -> Retry | str:
    """Run it again, or why not ("" if no reason need be given). `entry`: its submission that counts."""
    if is_waiting:
        return "it is already waiting to be submitted"
    if not ev.final:
        return f"it is still {ev.state}" if request.insists(ev.name) else ""
    outcome = verdict(ev, settled)
    cause = _cause(ev, settled, outcome)
    if request.causes and cause not in request.causes:
        return f"its cause is {cause or 'none'}" if request.insists(ev.name) else ""
    if outcome == "ok" and not request.force:
        return "it succeeded; --force runs it again" if request.insists(ev.name) else ""
    if request.failed_only and outcome != "failed":
        return f"it is {outcome}, not failed"
    why_not = _not_possible(ev, entry, request)
    if not why_not and not request.force and not request.insists(ev.name):
        why_not = _not_worth_it(ev, settled, outcome)
    return why_not or _again(ev, settled, outcome, cause)


def with_options(chosen: ChosenEval, source: RetryScript, request: RetryRequest, limits: Limits) -> ChosenEval | str:
    """The eval with its options and why it is run again, or why not: it cannot be, or it would end the same way."""
    script, retry = source.script.head, chosen.retry
    if script.is_het:
        return "a heterogeneous job has separate limits for each part; submit it yourself"
    if chosen.name[1] is None and script.options.get("array"):
        return "its script is now an array; submit it as new evals: evalmon submit"
    earlier, had = by_long_name(chosen.entry.submission.options), had_by(chosen.ev.latest, chosen.result)
    scale_time = request.scale_time if retry.more_time else None
    scale_memory = request.scale_memory if retry.more_memory else None
    time = time_options(script.options, earlier, had, limits, scale=scale_time)
    memory = memory_options(script.options, earlier, had, limits, scale=scale_memory)
    exclude = exclude_options(script.options, earlier, request.exclude_nodes)
    log, no_more = source.log_for(retry), time.why_not or memory.why_not
    why_not = exclude.why_not
    if no_more and log is None and not request.force:
        why_not = why_not or f"{retry.reason}: {no_more}; --force runs it with the same"
    why_not = why_not or certain_to_fail(retry, request, is_script_changed=source.is_changed)
    if why_not:
        return why_not
    parts = (time, memory, exclude)
    changes = [text for part in parts for text in (*part.changes, part.why_not) if text]
    why = ", ".join([description(retry, request), *changes, *([f"goes on from {log}"] if log is not None else [])])
    options = tuple(option for part in parts for option in part.argv)
    return replace(chosen, options=options, why=f"{why}; {source.remark}" if source.remark else why)


def submissions(
    source: RetryScript,
    evals: Sequence[ChosenEval],
    *,
    most: int | None,
    environ: Mapping[str, str],
    new_token: Callable[[], str],
) -> Iterator[Prepared]:
    """The submissions of one script: array tasks with the same options in one, with no more than `most` tasks."""
    by_options: dict[tuple[str, ...], list[ChosenEval]] = {}
    for chosen in evals:
        by_options.setdefault(chosen.options, []).append(chosen)
    for alike in by_options.values():
        size, spec = most or len(alike), array_spec(source.script, environ)
        for start in range(0, len(alike), size):
            yield _prepared(source, alike[start : start + size], spec, token=new_token())


def _prepared(source: RetryScript, part: Sequence[ChosenEval], spec: str, *, token: str) -> Prepared:
    name, options, why = part[0].name[0], part[0].options, _why(part)
    tasks = tuple(sorted(task for chosen in part if (task := chosen.name[1]) is not None)) or None
    if tasks is not None:
        array = array_option(tasks, spec)
        options, why = (*options, array), f"{array}; {why}"
    return Prepared(
        source.script,
        Submission(name, source.script.path, part[0].entry.submission.output_dir, tasks, options, token),
        {chosen.name[1]: log for chosen in part if (log := source.log_for(chosen.retry)) is not None},
        why,
        {chosen.name: chosen.entry.token for chosen in part},
    )


def _why(part: Sequence[ChosenEval]) -> str:
    """Why these run again; of an array whose tasks differ, which of them for which reason."""
    tasks_by_text: dict[str, list[int]] = {}
    for chosen in part:
        tasks_by_text.setdefault(chosen.why, []).append(chosen.name[1] or 0)
    if len(tasks_by_text) == 1:
        return part[0].why
    return "; ".join(f"[{array_option(tasks, '').partition('=')[2]}] {text}" for text, tasks in tasks_by_text.items())


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


def _cause(ev: Eval, settled: EvalResults, outcome: Verdict) -> str | None:
    """Why it failed, as `diagnosis` in summary.json says."""
    if outcome not in UNSUCCESSFUL:
        return None
    diagnosis = diagnosis_of(ev, settled)
    return UNKNOWN if diagnosis is None else diagnosis.cause


def _again(ev: Eval, settled: EvalResults, outcome: Verdict, cause: str | None) -> Retry:
    succeeded = outcome == "ok"
    is_explained = ev.state is State.COMPLETED and not succeeded
    return Retry(
        reason=_why_not_ok(settled) if is_explained else str(ev.state),
        cause=cause,
        attempt=len(ev.jobs) + 1,
        more_time=ev.state is State.TIMEOUT,
        more_memory=ev.state is State.OUT_OF_MEMORY,
        log=None if succeeded else _log_to_go_on_from(settled),
    )


def _why_not_ok(settled: EvalResults) -> str:
    """Why one that COMPLETED is run again."""
    is_good = all(result.succeeded for result in settled.results) and not settled.missing and settled.unknown is None
    return "its command or its output ended in an error" if is_good else reason(settled)


def _log_to_go_on_from(settled: EvalResults) -> str | None:
    """The log of the one eval that ran, if that is its own by proof: of several, the others would not be run again."""
    if len(settled.results) != 1 or settled.missing or settled.unknown is not None:
        return None
    [result] = settled.results
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


def _not_worth_it(ev: Eval, settled: EvalResults, outcome: Verdict) -> str:
    """Why running it again may pay a second time for a result that exists; "" where it does not."""
    result, why = worst(settled.results), ""
    if ev.state in _UNCERTAIN:
        why = _UNCERTAIN[ev.state]
    elif outcome == "unverified":
        why = f"it COMPLETED, and its result is unknown: {settled.unknown}"
    elif outcome == "suspect" and result is not None and not settled.missing:
        if result.succeeded:
            why = f"its log says success with all samples; it is {ev.state}, and suspect, for something else in the job"
        elif result.status == UNREADABLE:
            why = "it COMPLETED, and its log cannot be read"
    return f"{why}; name it to run it again anyway" if why else ""
