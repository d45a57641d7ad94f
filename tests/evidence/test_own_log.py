"""Which log is the attempt's: that of its time, of its task, its last try, and of several things the worst."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from evalmon_agent.evidence.own_log import AttemptSpan, pick
from evalmon_agent.evidence.result import EvalLog

START_S = 1_771_597_692.6
ATTEMPT = AttemptSpan(started_at=START_S, ended_at=START_S + 300)


def log(after_s: float, *, status: str = "success", task: str = "capitals", subject: str = "") -> EvalLog:
    return EvalLog(
        status=status,
        created=datetime.fromtimestamp(int(START_S + after_s), tz=UTC),
        task=task,
        model="hf/local",
        subject=subject or task,
        samples_completed=None,
        samples_total=None,
    )


def test_the_log_of_the_attempts_own_time_is_picked() -> None:
    logs = {"before": log(-100), "own": log(4, status="error"), "after": log(400)}
    assert pick(logs, ATTEMPT) == "own"
    assert pick({"before": logs["before"], "after": logs["after"]}, ATTEMPT) is None
    assert pick({}, ATTEMPT) is None


def test_a_running_attempt_has_no_end_yet() -> None:
    logs = {"before": log(-100), "own": log(4), "newer": log(4000)}
    assert pick(logs, replace(ATTEMPT, ended_at=None)) == "newer"


def test_the_whole_seconds_of_created_are_cut_off() -> None:
    exact = replace(ATTEMPT, slack_s=0)
    assert pick({"own": log(0)}, exact) == "own"
    assert pick({"own": log(-1)}, exact) is None


def test_a_clock_that_is_off_needs_more_slack() -> None:
    assert pick({"own": log(-30)}, ATTEMPT) is None
    assert pick({"own": log(-30)}, replace(ATTEMPT, slack_s=60)) == "own"


def test_of_several_tries_the_newest_counts() -> None:
    logs = {"second": log(60), "first": log(4, status="error")}
    assert pick(logs, ATTEMPT) == "second"
    logs = {"second": log(60, status="error"), "first": log(4)}
    assert pick(logs, ATTEMPT) == "second"


def test_of_several_things_the_worst_counts() -> None:
    logs = {
        "a": log(4, subject="a"),
        "b": log(30, status="cancelled", subject="b"),
        "c": log(50, status="started", subject="c"),
        "d": log(60, subject="d"),
    }
    assert pick(logs, ATTEMPT) == "b"
    assert pick(logs | {"e": log(20, status="error", subject="e")}, ATTEMPT) == "e"
    assert pick({"a": logs["a"], "d": logs["d"]}, ATTEMPT) == "d"


def test_in_a_shared_directory_the_jobs_output_tells_the_own_one() -> None:
    logs = {"logs/2026_a_1.eval": log(4, subject="a"), "logs/2026_a_2.eval": log(5, status="error", subject="b")}
    output = "lots of lines\nLog: /a/very/long/path/logs/2026_a_\n1.eval\n"
    assert pick(logs, replace(ATTEMPT, output=output)) == "logs/2026_a_1.eval"
    assert pick(logs, replace(ATTEMPT, output="something else")) == "logs/2026_a_2.eval"


def test_a_log_that_the_output_names_from_an_earlier_attempt_does_not_count() -> None:
    logs = {"logs/old.eval": log(-300), "logs/new.eval": log(3, status="started")}
    assert pick(logs, replace(ATTEMPT, output="Log: logs/old.eval")) == "logs/new.eval"


@pytest.mark.parametrize("name", ["capitals", "my_package/capitals"])
def test_without_the_output_the_task_tells_the_own_one(name: str) -> None:
    logs = {"other": log(9, task="arithmetic", status="error"), "own": log(4, task=name)}
    assert pick(logs, replace(ATTEMPT, task="capitals")) == "own"
    assert pick(logs, replace(ATTEMPT, task="something")) == "other"
    assert pick(logs, ATTEMPT) == "other"


def test_a_log_without_a_time_is_nobodys() -> None:
    assert pick({"own": replace(log(4), created=None)}, ATTEMPT) is None
