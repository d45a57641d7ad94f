"""Settles which results each eval has, and says whether it succeeded, by Slurm, the job's report and its results. Pure.

Results are settled over the whole experiment: a log has at most one owner.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec.structs import replace

from evalmon_agent.evidence.diagnosis.causes import Diagnosis
from evalmon_agent.evidence.diagnosis.diagnose import AttemptEnd, UnopenedFile, diagnose
from evalmon_agent.evidence.kinds import BY_NAME
from evalmon_agent.evidence.kinds.kind import ObservedProgram
from evalmon_agent.evidence.owners import JobResults, ObservedJob, results
from evalmon_agent.evidence.result import UNREADABLE, EvalLog, EvalResult, to_result, worst
from evalmon_agent.tracking.records import Attempt, Eval, Evidence, ExperimentState, JobReport
from evalmon_agent.tracking.timeline import slurm_says
from evalmon_agent.words.durations import first_known
from evalmon_agent.words.states import TERMINAL, State


@dataclass(frozen=True, slots=True)
class EvalResults:
    """What the latest attempt of an eval has to show.

    Attributes:
        results: one for each log that is its own by proof.
        missing: how many programs began an eval and left no log where it should be.
        unknown: why a result cannot be known from here; None: nothing is unknown.
    """

    results: Sequence[EvalResult] = ()
    missing: int = 0
    unknown: str | None = None


NO_RESULTS = EvalResults()
NOT_LOOKED_FOR = "its output and logs were not looked at yet"

_NEVER = float("inf")
_CLOCKS_DIFFER_S = 600.0
"""How far the clocks of two nodes and of the file server are apart at most; munge refuses half of that."""


class AttemptsByTime:
    """The attempts of an experiment that ran, found by when they did: only one that ran meanwhile can have a log."""

    def __init__(self, evals: Iterable[Eval]) -> None:
        """Take the attempts as they are now."""
        attempts = [(ev, attempt) for ev in evals for job in ev.jobs for attempt in job.attempts if attempt.has_run]
        self._attempts = sorted(attempts, key=lambda each: _started_at(each[1]))
        self._starts = [_started_at(attempt) for _, attempt in self._attempts]
        self._longest_s = max((_ended_at(attempt) - _started_at(attempt) for _, attempt in attempts), default=0.0)

    def beside(self, evals: Iterable[Eval]) -> Iterator[tuple[Eval, Attempt]]:
        """The attempts of these evals, and those that ran at the same time as one of them."""
        own = [(ev, attempt) for ev in evals for job in ev.jobs for attempt in job.attempts if attempt.has_run]
        if not own:
            return
        yield from own
        names = {ev.name for ev, _ in own}
        since = min(_started_at(attempt) for _, attempt in own) - _CLOCKS_DIFFER_S
        until = max(_ended_at(attempt) for _, attempt in own) + _CLOCKS_DIFFER_S
        first, last = bisect_left(self._starts, since - self._longest_s), bisect_right(self._starts, until)
        for ev, attempt in self._attempts[first:last]:
            if ev.name not in names and _ended_at(attempt) >= since:
                yield ev, attempt


def settle(
    state: ExperimentState,
    *,
    only: Collection[str] | None = None,
    so_far: Mapping[str, Evidence] | None = None,
    by_time: AttemptsByTime | None = None,
) -> dict[str, EvalResults]:
    """The results of each eval, by its name.

    Args:
        state: of the whole experiment: another eval may have written the same logs.
        only: the evals that are asked for; None: all.
        so_far: what the latest attempts of some evals have left behind by now, where the state does not say it.
        by_time: the state's attempts, if the caller asks more than once.
    """
    by_attempt = results_by_attempt(state, only=only, so_far=so_far, by_time=by_time)
    return {ev.name: by_attempt.get(id(ev.latest), NO_RESULTS) for ev in _those(state, only)}


def results_by_attempt(
    state: ExperimentState,
    *,
    only: Collection[str] | None = None,
    so_far: Mapping[str, Evidence] | None = None,
    by_time: AttemptsByTime | None = None,
) -> dict[int, EvalResults]:
    """The same for each attempt that ran, earlier ones included, by its `id()`."""
    fresh = so_far or {}
    evals = _those(state, only)
    jobs: dict[int, ObservedJob] = {}
    logs: dict[str, EvalLog] = {}
    # An earlier attempt's logs, and those of an earlier job, are its own: nobody else's.
    for ev, attempt in (by_time or AttemptsByTime(state.evals.values())).beside(evals):
        evidence = (fresh.get(ev.name) if attempt is ev.latest else None) or attempt.evidence or Evidence()
        jobs[id(attempt)] = _observed(attempt, evidence)
        for log in evidence.logs:
            logs[log.path] = max(log, logs.get(log.path, log), key=_newest_and_most_known)
    found = results(jobs, list(logs.values()))
    return {
        id(attempt): _results_of(attempt, found[id(attempt)], logs, is_fresh=ev.name in fresh and attempt is ev.latest)
        for ev in evals
        for job in ev.jobs
        for attempt in job.attempts
        if id(attempt) in jobs
    }


def _newest_and_most_known(log: EvalLog) -> tuple[float, bool, bool]:
    """Orders what was read of one file for two evals: for one of them it may have failed, or time may have run out."""
    return log.changed_at, log.status != UNREADABLE, log.samples_failed is not None


def _those(state: ExperimentState, only: Collection[str] | None) -> list[Eval]:
    return [ev for ev in state.evals.values() if only is None or ev.name in only]


def _started_at(attempt: Attempt) -> float:
    reported_at = attempt.report.started_at if attempt.report is not None else None
    return first_known(reported_at, attempt.started_at, attempt.submitted_at) or 0.0


def _ended_at(attempt: Attempt) -> float:
    reported_at = attempt.report.ended_at if attempt.report is not None else None
    return first_known(reported_at, attempt.ended_at) or _NEVER


def _results_of(attempt: Attempt, own: JobResults, logs: Mapping[str, EvalLog], *, is_fresh: bool) -> EvalResults:
    if attempt.evidence is None and not is_fresh:
        return EvalResults(unknown=NOT_LOOKED_FOR)
    return EvalResults(
        results=[to_result(logs[path], known_by=proof) for path, proof in own.logs.items()],
        missing=len(own.without_log),
        unknown=own.unverified,
    )


def _observed(attempt: Attempt, evidence: Evidence) -> ObservedJob:
    report = attempt.report or JobReport(0)
    witness = report.witness
    ended_at = first_known(report.ended_at, attempt.ended_at)
    return ObservedJob(
        started_at=_started_at(attempt),
        ended_at=ended_at,
        programs=[_observed_program(program, evidence, ended_at) for program in report.eval_programs],
        printed=evidence.printed,
        is_watched=witness is not None and witness.by == "cgroup",
        nodes_unseen=0 if witness is None else witness.nodes_unseen,
        left_out=0 if witness is None else witness.left_out,
        names_framework=evidence.names_framework,
        not_all_read=evidence.not_all_read,
    )


def _observed_program(program: ObservedProgram, evidence: Evidence, job_ended_at: float | None) -> ObservedProgram:
    """With what its settings file says; one whose end nobody saw ended with its job."""
    kind = BY_NAME.get(program.kind)
    configured = program if kind is None else kind.configured(program, evidence.configured)
    return configured if program.ended_at is not None else replace(configured, ended_at=job_ended_at)


Verdict = Literal["ok", "failed", "suspect", "unverified", "active", "refused", "dropped"]

UNSUCCESSFUL: frozenset[Verdict] = frozenset({"failed", "suspect"})
"""It ended, and did not succeed."""
NEEDS_YOU: frozenset[Verdict] = UNSUCCESSFUL | {"refused"}
"""A person has to do something."""
NEEDS_ATTENTION: frozenset[Verdict] = NEEDS_YOU | {"unverified"}
"""A person has to do something, or to look."""

_MAY_HAVE_RUN_ON = frozenset({State.FAILED, State.OUT_OF_MEMORY})


def verdict(ev: Eval, settled: EvalResults) -> Verdict:
    """The verdict on an eval with these results: the first row of the table that fits."""
    return verdict_on(ev.state, ev.latest or Attempt(), settled) if ev.final else "active"


def verdict_on(state: State, attempt: Attempt, settled: EvalResults) -> Verdict:
    """The verdict on one attempt that ended in this state."""
    all_succeeded = all(result.succeeded for result in settled.results) and not settled.missing
    if state is not State.COMPLETED:
        is_whole = state in _MAY_HAVE_RUN_ON and bool(settled.results) and all_succeeded and settled.unknown is None
        return "suspect" if is_whole else "failed"
    command_failed = attempt.report is not None and (attempt.report.signal is not None or attempt.report.exit_code)
    ends_in_error = attempt.evidence is not None and attempt.evidence.ends_in_error
    if command_failed or ends_in_error or not all_succeeded:
        return "suspect"
    return "ok" if settled.unknown is None else "unverified"


def reason(settled: EvalResults) -> str:
    """What its results are, in a few words."""
    result = worst(settled.results)
    if result is not None and not result.succeeded:
        return f"its log says {result.status}, {result.samples} samples"
    if settled.missing:
        return "a program began an eval and left no log"
    if settled.unknown is not None:
        return f"its result is unknown: {settled.unknown}"
    return f"its log says {result.status}, {result.samples} samples" if result is not None else "no eval began"


def verdicts(state: ExperimentState) -> dict[str, Verdict]:
    """The verdict of each eval, by its name."""
    settled = settle(state)
    return {ev.name: verdict(ev, settled.get(ev.name, EvalResults())) for ev in state.evals.values()}


def witnesses_agree(ev: Eval) -> bool | None:
    """Whether Slurm and the job's report tell the same of its end; None if one of them says nothing."""
    attempt = ev.latest
    return agree(slurm_says(attempt), attempt.report) if ev.final and attempt is not None else None


def agree(state: State | None, report: JobReport | None) -> bool | None:
    """Whether Slurm's word on an attempt's end and the job's own are of one kind: success, or none.

    Which status or signal it was may differ: Slurm folds the one, and ends the other by itself.
    """
    if report is None or not report.ended or state not in TERMINAL:
        return None
    return (report.exit_code == 0) == (state is State.COMPLETED)


def says(report: JobReport | None) -> str | None:
    """What the job itself says of its end, in a few words."""
    if report is None:
        return None
    if report.signal is not None:
        return f"signal {report.signal}"
    return f"exit {report.exit_code}" if report.exit_code is not None else "started"


# ESLURMD_IO_ERROR (slurm_errno.h): a file of --output, --error or --input could not be opened. An exit code keeps seven
# bits of it, as a signal: `0:53`.
_IO_ERROR = 4021 % 128

_ENDED_ITSELF = frozenset({State.COMPLETED, State.FAILED})


def end_of_attempt(
    attempt: Attempt,
    *,
    state: State | None = None,
    printed: str = "",
    result: EvalResult | None = None,
    expects_log: bool = False,
    unopened: UnopenedFile | None = None,
) -> AttemptEnd:
    """The case of one attempt; `state`: where Slurm's own word is not the last one (LOST)."""
    last_state = state or slurm_says(attempt)
    exit_code, signal = exit_of(attempt, last_state)
    return AttemptEnd(
        state=last_state,
        exit_code=exit_code,
        signal=signal,
        elapsed_s=attempt.ran_for_s,
        time_limit_s=attempt.time_limit_s,
        cancelled_by=None if attempt.cancelled_by is None else _who(attempt.cancelled_by),
        output=printed,
        result=result,
        expects_log=expects_log,
        unopened=unopened,
    )


def diagnosis_of(ev: Eval, settled: EvalResults) -> Diagnosis | None:
    """Why its latest attempt failed: by its output, if that was read; else by Slurm's word and its results."""
    attempt = ev.latest or Attempt()
    if attempt.evidence is not None and attempt.evidence.diagnosis is not None:
        return attempt.evidence.diagnosis
    if attempt.has_run and ev.state is not State.COMPLETED:
        return None
    result, is_missing = worst(settled.results), settled.missing > 0
    return diagnose(end_of_attempt(attempt, state=ev.state, result=result, expects_log=is_missing))


def was_not_started(attempt: Attempt) -> bool:
    """Whether Slurm could not open the job's output or input, and so did not start its script."""
    return attempt.report is None and slurm_says(attempt) is State.FAILED and attempt.signal == _IO_ERROR


def exit_of(attempt: Attempt, state: State | None) -> tuple[int | None, int | None]:
    """Exit status and signal. The report decides: Slurm up to 25.05 folds status 137 into signal 9.

    Slurm's `0:0` is an exit status only where the job ended by itself: it prints that for TIMEOUT and the like too.
    """
    if attempt.report is not None and attempt.report.ended:
        return attempt.report.exit_code, attempt.report.signal
    if state not in _ENDED_ITSELF and not attempt.exit_code and not attempt.signal:
        return None, None
    # What a signal ended has no exit status, and least of all 0.
    return (None if attempt.signal and not attempt.exit_code else attempt.exit_code), attempt.signal


def _who(uid: int) -> str:
    return "root: an administrator, or Slurm itself" if uid == 0 else f"user {uid}"
