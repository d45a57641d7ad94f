"""Tests the blocks of monitor.log, letter by letter as in the user's text and the contract's additions."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.figures import Figures
from evalmon_agent.logbook import blocks
from evalmon_agent.logbook.blocks import BlockKind
from evalmon_agent.words.states import TERMINAL, State

NOW = 1_762_872_612.0
HEAD = "[2025-11-11 14:50:12]"
EVAL = "r8_lr1e-5/capitalization/epoch0"
GB = 1024**3


pytestmark = pytest.mark.usefixtures("in_utc")


def as_text(block: list[str]) -> str:
    return "\n".join(block)


# Each is a block of the user's text with its stamp and placeholders filled in.

STATUS_CHECK = f"""\
{HEAD} STATUS_CHECK: Polling SLURM
Result: 8 jobs found - 4 PENDING, 4 RUNNING, 0 COMPLETED"""

STATE_CHANGE = f"""\
{HEAD} STATE_CHANGE: r8_lr1e-5/capitalization/epoch0
Previous: PENDING
Current: RUNNING
Job ID: 12345690
Action: Updated run state"""

STATE_CHANGE_TERMINAL = f"""\
{HEAD} STATE_CHANGE: r8_lr1e-5/capitalization/epoch0
Previous: RUNNING
Current: COMPLETED
Completed: 2025-11-11 14:50:12
Elapsed: 4m 52s
Action: Updated run state
Result log: r8_lr1e-5/eval/logs/"""

COMPUTE_METRICS = f"""\
{HEAD} COMPUTE_METRICS: r8_lr1e-5/capitalization/epoch0
Job ID: 12345690
GPU Time: 00:04:52 / 00:30:00 (16%)
Memory: 32.29 GB / 64.00 GB
CPU Efficiency: 12.50%"""

COMPUTE_METRICS_EXCEEDED = f"""\
{HEAD} COMPUTE_METRICS: r8_lr1e-5/capitalization/epoch0
Job ID: 12345690
GPU Time: 00:30:12 / 00:30:00 (**EXCEEDED**)
⚠️ Time limit exceeded — consider increasing eval time limit when re-scaffolding"""

ALL_COMPLETE = f"""\
{HEAD} ALL_COMPLETE: Monitoring finished
Summary: 8 evaluations completed - 8 COMPLETED, 0 FAILED
Total time: 15 minutes
Outcome: All 8 evals succeeded"""

RESOURCE_STATUS = f"""\
{HEAD} RESOURCE_STATUS: r8_lr1e-5/capitalization/epoch0
GPU Utilization: 87% | GPU Memory: 31.5/80.0 GB"""

FIGURES = Figures(
    elapsed_s=292,
    time_limit_s=1800,
    time_efficiency_pct=16.22,
    cpu_efficiency_pct=12.5,
    memory_used_bytes=round(32.29 * GB),
    memory_requested_bytes=64 * GB,
)


def test_status_check() -> None:
    assert STATUS_CHECK == as_text(blocks.status_check(NOW, {State.PENDING: 4, State.RUNNING: 4}))


def test_a_status_check_always_has_three_counts_and_others_where_they_occur() -> None:
    empty, mixed = blocks.status_check(NOW, {}), {State.TIMEOUT: 1, State.FAILED: 2, State.SUSPENDED: 3, State.LOST: 0}
    assert "Result: 0 jobs found - 0 PENDING, 0 RUNNING, 0 COMPLETED" == empty[1]
    expected = "Result: 6 jobs found - 0 PENDING, 0 RUNNING, 0 COMPLETED, 3 SUSPENDED, 2 FAILED, 1 TIMEOUT"
    assert expected == blocks.status_check(NOW, mixed)[1]


def test_state_change() -> None:
    change = {"previous": State.PENDING, "current": State.RUNNING}
    for at in (None, NOW, NOW + 0.9):
        assert STATE_CHANGE == as_text(blocks.state_change(NOW, EVAL, "12345690", at=at, **change))


def test_the_events_own_time_follows_if_it_differs() -> None:
    block = blocks.state_change(NOW, EVAL, "12345690", previous=State.PENDING, current=State.RUNNING, at=NOW - 61)
    assert f"{STATE_CHANGE}\nAt: 2025-11-11 14:49:11" == as_text(block)


def ended(**more: object) -> str:
    known = {"previous": State.RUNNING, "current": State.COMPLETED, "at": NOW, "elapsed_s": 292.0}
    whole = {**known, "result_log": "r8_lr1e-5/eval/logs/", **more}
    return as_text(blocks.state_change_terminal(NOW, EVAL, "12345690", **whole))


def test_state_change_to_an_end_has_evalmons_line_after_the_users() -> None:
    assert f"{STATE_CHANGE_TERMINAL}\nJob ID: 12345690" == ended()


@pytest.mark.parametrize("end", sorted(TERMINAL))
def test_every_end_has_the_same_form(end: State) -> None:
    assert STATE_CHANGE_TERMINAL.replace("COMPLETED", end) + "\nJob ID: 12345690" == ended(current=end)


@pytest.mark.parametrize(
    ("elapsed_s", "expected"),
    [(0.0, "0s"), (52.9, "52s"), (3892.0, "1h 4m 52s"), (86_400.0, "1d 0h 0m 0s"), (-5.0, "unknown")],
)
def test_elapsed_time_is_in_words(elapsed_s: float, expected: str) -> None:
    assert f"\nElapsed: {expected}\n" in ended(elapsed_s=elapsed_s)


def test_unknown_details_of_an_end_are_unknown() -> None:
    lines = ended(at=None, elapsed_s=None, result_log=None).split("\n")
    assert ["Completed: unknown", "Elapsed: unknown", "Action: Updated run state", "Result log: unknown"] == lines[3:7]


def test_a_missing_directory_is_left_out() -> None:
    assert "Action: Updated run state\nJob ID: 12345690" in ended(result_log="")


def test_a_single_item_is_singular() -> None:
    assert "Result: 1 job found - 1 PENDING, " in blocks.status_check(NOW, {State.PENDING: 1})[1]
    assert (
        "Summary: 1 evaluation completed - 1 COMPLETED"
        in blocks.all_complete(NOW, {State.COMPLETED: 1}, total_time_s=60.0, outcome="x")[1]
    )


def test_a_peak_below_the_limit_of_an_out_of_memory_job_is_marked_as_sampled() -> None:
    used = replace(FIGURES, memory_used_bytes=69, memory_requested_bytes=100)
    block = blocks.compute_metrics(NOW, EVAL, "1", used, state=State.OUT_OF_MEMORY)
    note = "Note: the memory figure (69% of the request) is sampled and missed the peak, which reached the limit"
    assert note == block[-1]
    others = (
        blocks.compute_metrics(NOW, EVAL, "1", used, state=State.FAILED),
        blocks.compute_metrics(NOW, EVAL, "1", replace(used, memory_used_bytes=100), state=State.OUT_OF_MEMORY),
    )
    assert [False, False] == [any("Note" in line for line in other) for other in others]


def test_compute_metrics() -> None:
    block = blocks.compute_metrics(NOW, EVAL, "12345690", FIGURES, state=State.COMPLETED)
    assert COMPUTE_METRICS == as_text(block)


def test_compute_metrics_of_a_timeout_are_flagged_and_complete() -> None:
    figures = Figures(elapsed_s=1812, time_limit_s=1800, time_efficiency_pct=100.67)
    block = blocks.compute_metrics(NOW, EVAL, "12345690", figures, state=State.TIMEOUT)
    assert f"{COMPUTE_METRICS_EXCEEDED}\nMemory: unknown / unknown\nCPU Efficiency: unknown" == as_text(block)


def test_unknown_figures_are_unknown_and_never_0() -> None:
    block = blocks.compute_metrics(NOW, EVAL, "1", Figures(elapsed_s=292), state=State.FAILED)
    expected = ["GPU Time: 00:04:52 / unknown (unknown)", "Memory: unknown / unknown", "CPU Efficiency: unknown"]
    assert expected == block[2:]


def test_all_complete() -> None:
    assert ALL_COMPLETE == as_text(
        blocks.all_complete(NOW, {State.COMPLETED: 8}, total_time_s=15 * 60 + 12, outcome="All 8 evals succeeded")
    )


def test_all_complete_names_every_other_end_that_occurred() -> None:
    counts = {State.COMPLETED: 4, State.FAILED: 3, State.CANCELLED: 2, State.LOST: 1}
    expected = [
        "Summary: 10 evaluations completed - 4 COMPLETED, 3 FAILED, 2 CANCELLED, 1 LOST",
        "Total time: unknown",
        "Outcome: \\n[x] A: b",
    ]
    assert expected == blocks.all_complete(NOW, counts, total_time_s=None, outcome="\n[x] A: b")[1:]


@pytest.mark.parametrize(
    ("total_s", "expected"),
    [(60, "1 minute"), (7500, "2 hours 5 minutes"), (3600, "1 hour"), (52, "52 seconds"), (90_000, "1 day 1 hour")],
)
def test_the_total_time_is_in_words(total_s: float, expected: str) -> None:
    assert f"Total time: {expected}" == blocks.all_complete(NOW, {}, total_time_s=total_s, outcome="")[2]


def test_resource_status() -> None:
    tick = {"utilization_pct": 86.6, "memory_used_mib": 31.5 * 1024, "memory_total_mib": 80 * 1024.0}
    assert RESOURCE_STATUS == as_text(blocks.resource_status(NOW, EVAL, **tick))


def test_evalmons_own_blocks_have_the_same_shape() -> None:
    block = blocks.note(NOW, BlockKind.ALERT, "5 polls in a row failed", {"Since": "14:45", "Last error": "a\nb"})
    assert [f"{HEAD} ALERT: 5 polls in a row failed", "Since: 14:45", "Last error: a\\nb"] == block


def test_eval_result() -> None:
    result = EvalResult(
        status="success",
        task="capitals",
        model="hf/m",
        samples_completed=9,
        samples_total=10,
        samples_failed=1,
        scores={"match/accuracy": 0.5, "match/stderr": None},
        log="logs/a.eval",
    )
    expected = ["Job ID: 7", "Task: capitals", "Model: hf/m", "Status: success", "Samples: 9 of 10, 1 failed"]
    expected += ["Scores: match/accuracy 0.5, match/stderr nan", "Log: logs/a.eval"]
    assert expected == blocks.eval_result(NOW, EVAL, "7", result)[1:]


def test_eval_result_of_an_incomplete_or_missing_log() -> None:
    said = blocks.eval_result(NOW, EVAL, "7", EvalResult(status="error", error="boom\n[x] ALERT: y"))
    assert ["Samples: unknown of unknown", "Error: boom\\n[x] ALERT: y", "Log: unknown"] == said[3:]
    assert "Scores: not scored" in blocks.eval_result(NOW, EVAL, "7", EvalResult(status="success"))


def test_eval_result_without_any_known_result() -> None:
    left_none = ["Job ID: 7", "Status: unknown", "Log: none was found"]
    assert left_none == blocks.result_unknown(NOW, EVAL, "7", None)[1:]
    why = ["Job ID: 7", "Status: unknown", "Log: unknown", "Reason: its log is at a URL"]
    assert why == blocks.result_unknown(NOW, EVAL, "7", "its log is at a URL")[1:]


def test_verdict_changed() -> None:
    block = blocks.verdict_changed(NOW, EVAL, "7", previous="unverified", current="ok", why="a log\nwas found")
    expected = ["Previous: unverified", "Current: ok", "Job ID: 7", "Reason: a log\\nwas found"]
    assert [f"{HEAD} VERDICT_CHANGED: {EVAL}", *expected] == block


def test_blocks_are_separated_by_one_blank_line_and_contain_none() -> None:
    assert "a\nb\n\nc\n\n" == blocks.join([["a", "b"], ["c"]])
    assert "" == blocks.join([])


@pytest.mark.parametrize("at", [1e300, -1e300, 253_402_300_800.0, float("nan"), float("inf")])
def test_a_time_outside_the_calendar_is_unknown(at: float) -> None:
    assert "unknown" == blocks.stamp(at)


def test_stamps_are_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    assert "2025-11-11 15:50:12" == blocks.stamp(NOW)
