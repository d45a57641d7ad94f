"""Plans retries: which evals are run again, with which options of sbatch, in which submissions. Pure.

The script's `#SBATCH` lines are the user's and stay as they are: a retry has options above them. It never gets less
than it had, more only of what it lacked, and not beyond what the partition and its nodes have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from evalmon_agent.evidence.diagnosis.causes import UNKNOWN, returns_for_good
from evalmon_agent.evidence.result import UNREADABLE, EvalResult, whole_s, worst
from evalmon_agent.slurm.sbatch import by_long_name
from evalmon_agent.slurm.scontrol import split_nodes
from evalmon_agent.slurm.sinfo import Partition, longest_s, named_partitions
from evalmon_agent.submission.plan import Prepared, Script, array_option, array_spec
from evalmon_agent.tracking.records import Attempt, Eval
from evalmon_agent.tracking.registry import Entry, Name, Submission
from evalmon_agent.tracking.verdict import UNSUCCESSFUL, EvalResults, Verdict, diagnosis_of, reason, verdict
from evalmon_agent.words.durations import clock, time_option
from evalmon_agent.words.sizes import counted, parse_mem_option
from evalmon_agent.words.states import State

_RETRY_LOG = b"EVALMON_RETRY_LOG"
"""The variable that a script looks at to let its eval go on from an earlier log."""

_RESUMABLE = frozenset({"started", "error", "cancelled", "success"})
_UNCERTAIN = {
    State.LOST: "nobody knows how it ended, or whether it did",
    State.REVOKED: "another cluster of the federation runs it",
}

_MIB = 1024 * 1024
_PACE_MARGIN = 1.1
"""Samples differ, so this factor is added to the time that the pace so far predicts."""

_MEMORY = ("mem-per-gpu", "mem-per-cpu", "mem")
"""sbatch takes one of them; they exclude one another."""


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
    earlier, had = by_long_name(chosen.entry.submission.options), chosen.ev.latest or Attempt()
    scale_time = request.scale_time if chosen.ev.state is State.TIMEOUT else None
    scale_memory = request.scale_memory if chosen.ev.state is State.OUT_OF_MEMORY else None
    in_all_s = whole_s(chosen.result, had.elapsed_s)
    time = time_options(script.options, earlier, had, limits, scale=scale_time, in_all_s=in_all_s)
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


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a job gets where the eval runs; None: no limit, or unknown."""

    time_s: float | None = None
    node_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """sbatch's options, and the changes in words; `why_not`: why there is no more of what it lacked."""

    argv: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    why_not: str = ""


def limits_in(named: str, partitions: Sequence[Partition], node_memory: Mapping[str, int]) -> Limits:
    """Of several partitions the one that allows most; `named` as --partition has them, "" for the default.

    `node_memory`: by partition, the bytes of its largest node.
    """
    sizes = [node_memory[p.name] for p in named_partitions(named, partitions) if p.name in node_memory]
    return Limits(longest_s(named, partitions), max(sizes, default=None))


def time_options(
    script: Mapping[str, str],
    earlier: Mapping[str, str],
    had: Attempt,
    limits: Limits,
    *,
    scale: float | None,
    in_all_s: float | None = None,
) -> Options:
    """`--time`; `earlier`: the options that its last submission had above the script's. `scale`: None for no more.

    `in_all_s`: how long all its samples would take, at the pace of those that it finished.
    """
    given_s = time_option(earlier.get("time", ""))
    if scale is None:
        return _time(max(given_s, time_option(script.get("time", "")) or 0.0)) if given_s else Options()
    times_s = (had.time_limit_s, given_s, time_option(script.get("time", "")), had.elapsed_s)
    had_s = next((time_s for time_s in times_s if time_s), None)
    if had_s is None:
        return Options(why_not="its time limit is unknown; raise --time in its script")
    most_s = limits.time_s or math.inf
    needed_s = max(had_s * scale, (in_all_s or 0.0) * _PACE_MARGIN)
    whole_minutes_s = math.ceil(round(needed_s / 60, 3)) * 60.0
    new_s = max(min(whole_minutes_s, most_s), had_s, time_option(script.get("time", "")) or 0.0)
    if new_s <= had_s:
        return Options(
            _time(had_s).argv,
            why_not=f"it already had the partition's limit of {clock(had_s)}; choose a partition with a longer one",
        )
    is_rounded = new_s == whole_minutes_s and round(new_s - needed_s, 3) > 0
    rounded = " (rounded up to minutes)" if is_rounded else ""
    return Options(_time(new_s).argv, (f"time {clock(had_s)} -> {clock(new_s)}{rounded}",))


def memory_options(
    script: Mapping[str, str], earlier: Mapping[str, str], had: Attempt, limits: Limits, *, scale: float | None
) -> Options:
    """`--mem`, `--mem-per-cpu` or `--mem-per-gpu`, whichever it had; `--mem-per-cpu` if it had none."""
    kind = next((name for options in (earlier, script) for name in _MEMORY if name in options), None)
    given = parse_mem_option(earlier.get(kind, "")) if kind else None
    own = parse_mem_option(script.get(kind, "")) if kind else None
    if scale is None:
        return Options((f"--{kind}={_mib(max(given, own or 0))}",)) if kind and given else Options()
    if kind is not None and (given or own) is None:
        return Options(why_not="it already had all the memory of its nodes; choose larger nodes in its script")
    if kind is None:
        kind, given = "mem-per-cpu", _per_cpu(had)
    had_bytes = max(given or 0, own or 0)
    if not had_bytes:
        return Options(why_not="the memory it had is unknown; raise --mem in its script")
    new_bytes = int(max(min(math.ceil(had_bytes * scale), _most(kind, had, limits)), had_bytes))
    if _mib(new_bytes) == _mib(had_bytes):
        return Options(
            (f"--{kind}={_mib(had_bytes)}",), why_not=f"it already had all of a node's memory ({_mib(had_bytes)})"
        )
    return Options((f"--{kind}={_mib(new_bytes)}",), (f"{kind} {_mib(had_bytes)} -> {_mib(new_bytes)}",))


def exclude_options(script: Mapping[str, str], earlier: Mapping[str, str], nodes: str) -> Options:
    """`--exclude`: the script's own nodes, those of its last submission, and `nodes`, in sbatch's notation."""
    if not nodes and "exclude" not in earlier:
        return Options()
    own = script.get("exclude", "")
    if "/" in own:  # sbatch(1): a file that lists them
        return Options(why_not=f"its script excludes the nodes listed in {own}; add {nodes} to that file")
    parts = [part for text in (own, earlier.get("exclude", ""), nodes) for part in split_nodes(text)]
    return Options((f"--exclude={','.join(dict.fromkeys(parts))}",), (f"excluding {nodes}",) if nodes else ())


def _time(seconds: float) -> Options:
    return Options((f"--time={clock(seconds)}",))


def _per_cpu(had: Attempt) -> int | None:
    figures = had.figures or had.accounted
    memory_bytes = figures.memory_requested_bytes if figures is not None else None
    return None if not memory_bytes or not had.cpus else math.ceil(memory_bytes / had.cpus)


def _most(kind: str, had: Attempt, limits: Limits) -> float:
    """The most that one node allows of this kind, for a job on one node; other jobs are left to sbatch."""
    whole = limits.node_memory_bytes
    if whole is None:
        return math.inf
    if kind == "mem":
        return whole
    parts = had.cpus if kind == "mem-per-cpu" else sum((had.gpus or {}).values())
    is_one_node = had.node_list and not {",", "["} & {*had.node_list}
    return whole // _MIB // parts * _MIB if parts and is_one_node else math.inf


def _mib(size: int) -> str:
    return f"{math.ceil(size / _MIB)}M"
