"""Tests each event's block: its facts, their source, and what is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalmon_agent.evidence.diagnosis.causes import Diagnosis
from evalmon_agent.evidence.result import EvalLog
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.figures import Figures
from evalmon_agent.files.pinned import Pinned
from evalmon_agent.monitor import log_blocks
from evalmon_agent.monitor.log_blocks import result_log, settled_by
from evalmon_agent.tracking.records import Eval, Evidence, ExperimentState, Measurement
from evalmon_agent.tracking.timeline import Event
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.states import State
from tracking.rows import NAME, T, Told, account, accounts, queue, report, reported, row, told

EXP = Experiment("/exp", Pinned("/", only_to_search=True))
NOW = T + 300
RUNNING = row(State.RUNNING, start=5)


pytestmark = pytest.mark.usefixtures("in_utc")


def blocks_of(events: list[Event], state: ExperimentState, experiment: Experiment, *, now: float) -> list[list[str]]:
    return log_blocks.blocks_of(events, experiment, settled_by(events, state), now=now)


def last_block(found: Told, experiment: Experiment = EXP) -> list[str]:
    return blocks_of(found.events[-1:], found.state, experiment, now=NOW)[-1]


NOTHING_LEFT = Evidence()


def measured(figures: Figures, evidence: Evidence = NOTHING_LEFT, *, submit: float = 1) -> Facts:
    return Facts(measurements=[Measurement((NAME, "123", T + submit, None), figures, evidence)])


def test_a_start_is_logged_with_its_own_time() -> None:
    expected = [
        f"[2026-09-21 14:18:20] STATE_CHANGE: {NAME}",
        "Previous: PENDING",
        "Current: RUNNING",
        "Job ID: 123",
        "Action: Updated run state",
        "At: 2026-09-21 14:13:25",
    ]
    assert expected == last_block(told(queue(10, RUNNING)))


def test_an_end_known_from_slurm_has_no_note() -> None:
    for answer in (accounts(60, account(State.FAILED, start=5, end=55)), queue(60, row(State.FAILED, start=5, end=55))):
        block = last_block(told(queue(10, RUNNING), answer))
        assert ["Completed: 2026-09-21 14:14:15", "Elapsed: 50s"] == block[3:5]
        assert "Job ID: 123" == block[6]
        assert "Job ID: 123" == block[-1]


def test_an_end_known_only_from_the_job_is_marked() -> None:
    ended = report(reported(start=6, end=50, exit_code=0))
    block = last_block(told(queue(10, RUNNING), ended, queue(60), accounts(60, disabled=True)))
    assert ["Completed: 2026-09-21 14:14:10", "Elapsed: 44s"] == block[3:5]
    assert "Note: from the job's own report; Slurm's accounting does not have it" == block[-1]


def test_it_is_marked_while_accounting_still_calls_the_job_running() -> None:
    running = account(State.RUNNING, start=5)
    silent = [facts for n in range(1, 4) for facts in (queue(60 * n), accounts(60 * n, running))]
    found = told(queue(10, RUNNING), report(reported(start=6, end=50, exit_code=0)), *silent)
    assert ("RUNNING>COMPLETED", True) == (found.path[-1], last_block(found)[-1].startswith("Note: from the job's own"))


def test_a_lost_job_is_logged_as_lost() -> None:
    found = told(queue(10), accounts(10), queue(60), accounts(60), lost_after_s=30)
    block, diagnosis = blocks_of(found.events[-1:], found.state, EXP, now=NOW)
    assert ["Current: LOST", "Completed: unknown", "Elapsed: unknown"] == block[2:5]
    assert "how it ended is unknown" in block[-1]
    assert "Evidence: neither Slurm nor the job itself has been heard of" == diagnosis[3]


def test_a_failure_is_diagnosed_after_its_figures() -> None:
    ended = told(queue(10, RUNNING), accounts(60, account(State.FAILED, start=5, end=55)))
    found = Diagnosis("unknown", "one\ntwo\x1b[31m", "Read the job's output")
    ended.take(measured(Figures(), Evidence(diagnosis=found)))
    [*_, block] = blocks_of(ended.events[-1:], ended.state, EXP, now=NOW)
    assert [
        f"[2026-09-21 14:18:20] DIAGNOSIS: {NAME}",
        "Job ID: 123",
        "Cause: unknown (failed for an unknown reason)",
        "Evidence: one ⏎ two\\x1b[31m",
        "Advice: Read the job's output",
    ] == block


def test_a_job_cancelled_before_its_start_is_diagnosed_with_its_end() -> None:
    waiting = row(State.PENDING)
    cancelled = account(State.CANCELLED, end=20, state_word="CANCELLED by 1001")
    found = told(queue(10, waiting), queue(20), accounts(21, cancelled))
    _, block = blocks_of(found.events[-1:], found.state, EXP, now=NOW)
    assert ["Cause: cancelled (was cancelled)", "Evidence: Slurm says CANCELLED by user 1001"] == block[2:4]
    assert [] == blocks_of(found.take(accounts(80, cancelled)), found.state, EXP, now=NOW)


def test_each_attempts_elapsed_time_is_its_own() -> None:
    ended = report(reported(0, start=6, end=50, signal=15), reported(1, start=200, end=300, exit_code=0))
    found = told(ended, queue(320), accounts(320, disabled=True))
    blocks = blocks_of(found.events, found.state, EXP, now=NOW)
    assert ["Elapsed: 1m 40s"] == [line for block in blocks for line in block if line.startswith("Elapsed")]


@pytest.mark.parametrize("witness", ["squeue", "sacct"])
def test_the_figures_of_a_timeout_are_flagged_whatever_the_source(witness: str) -> None:
    # Accounting that was asked too early said that the job was running.
    found = told(queue(10, RUNNING), accounts(10, account(State.RUNNING, start=5)))
    end = {"start": 5.0, "end": 1805.0}
    by_sacct = accounts(1900, account(State.TIMEOUT, **end))
    found.take(queue(1900, row(State.TIMEOUT, **end)) if witness == "squeue" else by_sacct)
    found.take(measured(Figures(elapsed_s=1800, time_limit_s=1800, time_efficiency_pct=100.0)))
    assert "GPU Time: 00:30:00 / 00:30:00 (**EXCEEDED**)" == last_block(found)[2]


def test_the_result_follows_the_figures_if_there_is_or_should_be_one() -> None:
    log = EvalLog(path="/a.eval", changed_at=T + 30, status="success", samples_completed=2, samples_total=2)
    for evidence, kinds in (
        (Evidence(), ["COMPUTE_METRICS"]),
        (Evidence(names_framework=True), ["COMPUTE_METRICS", "EVAL_RESULT"]),
        (Evidence(logs=[log], printed=[log.path]), ["COMPUTE_METRICS", "EVAL_RESULT"]),
    ):
        found = told(queue(60, row(State.COMPLETED, start=5, end=55)))
        events = found.take(measured(Figures(), evidence))
        blocks = blocks_of(events, found.state, EXP, now=NOW)
        assert kinds == [block[0].split("] ")[1].partition(":")[0] for block in blocks]


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("exp/r/eval/t_epoch0.slurm", "r/eval/logs/"),
        ("exp/r/eval/t_epoch0/cell.slurm", "r/eval/t_epoch0/logs/"),
        ("elsewhere/x.sh", "{}/elsewhere/logs/"),
        ("exp/x.sh", "logs/"),
    ],
)
def test_the_eval_log_is_named_relative_to_the_experiment(tmp_path: Path, script: str, expected: str) -> None:
    path = tmp_path / script
    ev, experiment = Eval("r/t", "1", script=str(path)), Experiment(str(tmp_path / "exp"), Pinned(str(tmp_path)))
    assert "" == result_log(ev, experiment)
    (path.parent / "logs").mkdir(parents=True)
    assert expected.format(tmp_path) == result_log(ev, experiment)


def test_without_a_script_the_result_is_unknown() -> None:
    assert None is result_log(Eval("r/t", "1"), EXP)


@pytest.mark.survives("F27")
def test_sources_that_disagree_are_both_shown() -> None:
    ended = report(reported(start=6, end=50, exit_code=0))
    found = told(queue(10, RUNNING), ended, queue(60), accounts(60, account(State.OUT_OF_MEMORY, start=5, end=55)))
    assert "Note: the witnesses disagree: Slurm says OUT_OF_MEMORY, the job itself exit 0" == last_block(found)[-1]
    agreed = told(queue(10, RUNNING), ended, queue(60), accounts(60, account(State.COMPLETED, start=5, end=55)))
    assert "Job ID: 123" == last_block(agreed)[-1]
