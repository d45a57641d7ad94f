"""What is known of an attempt's end, for the question why it failed. Pure."""

from __future__ import annotations

from evalmon_agent.evidence.diagnosis.records import AttemptEnd, UnopenedFile
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.tracking.path import slurm_says
from evalmon_agent.tracking.records import Attempt
from evalmon_agent.words.states import State

# ESLURMD_IO_ERROR (slurm_errno.h): a file of --output, --error or --input could not be opened. An exit code keeps seven
# bits of it, as a signal: `0:53`.
_IO_ERROR = 4021 % 128

_ENDED_ITSELF = frozenset({State.COMPLETED, State.FAILED})


def case_of(
    attempt: Attempt,
    *,
    state: State | None = None,
    printed: str = "",
    result: EvalResult | None = None,
    expects_log: bool = False,
    unopened: UnopenedFile | None = None,
) -> AttemptEnd:
    """The case of one attempt; `state`: where Slurm's own word is not the last one (LOST)."""
    said = state or slurm_says(attempt)
    exit_code, signal = exit_of(attempt, said)
    report = attempt.report
    elapsed_s = attempt.elapsed_s if attempt.elapsed_s is not None or report is None else report.elapsed_s
    return AttemptEnd(
        state=said,
        exit_code=exit_code,
        signal=signal,
        elapsed_s=elapsed_s,
        time_limit_s=attempt.time_limit_s,
        cancelled_by=None if attempt.cancelled_by is None else _who(attempt.cancelled_by),
        output=printed,
        result=result,
        expects_log=expects_log,
        unopened=unopened,
    )


def was_not_started(attempt: Attempt) -> bool:
    """Whether Slurm could not open the job's output or input, and so did not start its script."""
    return attempt.report is None and slurm_says(attempt) is State.FAILED and attempt.signal == _IO_ERROR


def exit_of(attempt: Attempt, said: State | None) -> tuple[int | None, int | None]:
    """Exit status and signal. The report decides: Slurm up to 25.05 folds status 137 into signal 9.

    Slurm's `0:0` is an exit status only where the job ended by itself: it prints that for TIMEOUT and the like too.
    """
    if attempt.report is not None and attempt.report.ended:
        return attempt.report.exit_code, attempt.report.signal
    if said not in _ENDED_ITSELF and not attempt.exit_code and not attempt.signal:
        return None, None
    # What a signal ended has no exit status, and least of all 0.
    return (None if attempt.signal and not attempt.exit_code else attempt.exit_code), attempt.signal


def _who(uid: int) -> str:
    return "root: an administrator, or Slurm itself" if uid == 0 else f"user {uid}"
