"""Tests that scripts/soak detects lines that are lost, invented or written twice, and wrong outcomes."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any

import pytest

from soak_parts import compare, evals, plan, told
from soak_parts.truth import Line, Row, Truth

NAME = "soak/ok/epoch0"
END = "2026-01-02T03:04:05"
AGAIN = "2026-01-02T03:05:05"


def row(state: str = "COMPLETED", *, exit_code: int = 0, signal: int = 0, ended: str = END, **more: Any) -> Row:
    return Row("7", state, exit_code, signal, more.pop("submitted", END), ended, more.pop("has_node", True))


def ran(end: str = "exit:0", *, restart: int = 0) -> tuple[Line, ...]:
    words = ("start", end) if end else ("start",)
    return tuple(Line("7", restart, word) for word in words)


def change(previous: str, current: str, *, ended: str = END) -> str:
    end = f"Completed: {ended.replace('T', ' ')}\nElapsed: 1s\n" if current not in {"RUNNING", "PENDING"} else ""
    return f"[2026-01-02 03:04:05] STATE_CHANGE: {NAME}\nPrevious: {previous}\nCurrent: {current}\n{end}Job ID: 7\n\n"


RUNS = change("PENDING", "RUNNING")
ENDS = change("RUNNING", "COMPLETED")
MEASURED = f"[2026-01-02 03:04:05] COMPUTE_METRICS: {NAME}\nJob ID: 7\n\n"
OVER = "[2026-01-02 03:04:05] ALL_COMPLETE: Monitoring finished\nSummary: 1 evaluations completed\n\n"
WHOLE = RUNS + ENDS + MEASURED + OVER
TRUTH = Truth(NAME, (row(),), ran())


def say(log: str = WHOLE, *, complete: bool = True, **outcome: Any) -> told.Told:
    ev = {"name": NAME, "job_id": "7", "state": "COMPLETED", "verdict": "ok", "exit_code": 0, "signal": None}
    ev |= {"attempts": [{}], **outcome}
    state = {"evals": {NAME: {"state": ev["state"]}}}
    return told.Told(tuple(told.parse(log)), {"complete": complete, "evals": [ev]}, state)


def found(truth: Truth = TRUTH, said: told.Told | None = None) -> list[str]:
    return sorted(finding.kind for finding in compare.compare([truth], said or say()))


def test_a_true_log_has_no_finding() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("log", "kinds"),
    [
        (ENDS + MEASURED + OVER, ["lost"]),
        (RUNS + MEASURED + OVER, ["invented", "lost"]),
        (RUNS + ENDS + OVER, ["lost"]),
        (RUNS + ENDS + MEASURED, ["lost"]),
        (RUNS + RUNS + ENDS + MEASURED + OVER, ["duplicate"]),
        (RUNS + ENDS + MEASURED + MEASURED + OVER, ["duplicate"]),
        (WHOLE + OVER, ["duplicate"]),
        (ENDS + RUNS + MEASURED + OVER, ["invented", "invented"]),
        (RUNS + change("RUNNING", "SUSPENDED") + ENDS + MEASURED + OVER, ["invented"]),
        (RUNS + OVER + ENDS + MEASURED + OVER, ["invented"]),
        (RUNS + change("RUNNING", "COMPLETED", ended=AGAIN) + MEASURED + OVER, ["invented"]),
        (RUNS + "torn [2026\n\n" + ENDS + MEASURED + OVER, ["invented"]),
        (WHOLE.replace("ok/", "other/"), ["invented"] * 3 + ["lost"] * 3),
    ],
)
def test_a_false_log_is_detected(log: str, kinds: list[str]) -> None:
    assert found(said=say(log)) == kinds


@pytest.mark.parametrize(
    "outcome",
    [
        {"state": "FAILED"},
        {"verdict": "failed"},
        {"exit_code": 1},
        {"exit_code": None},
        {"signal": 9},
        {"job_id": "8"},
        {"attempts": [{}, {}]},
    ],
)
def test_a_wrong_outcome_is_detected(outcome: dict[str, Any]) -> None:
    assert found(said=say(**outcome)) == ["invented"]


def test_an_incomplete_summary_counts_as_lost() -> None:
    assert found(said=say(complete=False)) == ["lost"]


def test_an_eval_that_ran_as_two_jobs_is_detected() -> None:
    truth = Truth(NAME, (row(),), (*ran(), Line("9", 0, "start")))
    assert found(truth) == ["duplicate"]


def test_a_task_that_slurm_forgot_counts_as_lost_and_nothing_else_does() -> None:
    """Cancelled before it had its own record, it is in no answer of Slurm's."""
    forgotten = Truth(NAME, (), (), is_forgotten=True)
    lost = change("PENDING", "LOST", ended="unknown") + OVER
    outcome = {"verdict": "failed", "exit_code": None, "attempts": []}
    assert found(forgotten, say(lost, state="LOST", **outcome)) == []
    assert found(forgotten, say(RUNS + ENDS + MEASURED + OVER)) != []
    assert found(forgotten, say(OVER, state="PENDING", **outcome)) != []


def test_a_requeued_eval_has_two_attempts_in_the_log() -> None:
    truth = Truth(NAME, (row("REQUEUED"), row(ended=AGAIN)), (*ran(""), *ran(restart=1)))
    log = RUNS + change("RUNNING", "REQUEUED") + MEASURED + change("REQUEUED", "PENDING") + RUNS
    log += change("RUNNING", "COMPLETED", ended=AGAIN) + MEASURED + OVER
    assert found(truth, say(log, attempts=[{}, {}])) == []
    assert found(truth, say(WHOLE, attempts=[{}, {}])) == ["lost"] * 4


def test_an_eval_cancelled_during_its_launch_may_have_run_or_not() -> None:
    truth = Truth(NAME, (row("CANCELLED", signal=15),), ())
    outcome: dict[str, Any] = {"state": "CANCELLED", "verdict": "failed", "exit_code": None, "signal": 15}
    assert found(truth, say(change("PENDING", "CANCELLED") + OVER, **outcome)) == []
    log = RUNS + change("RUNNING", "CANCELLED") + MEASURED + OVER
    assert found(truth, say(log, **outcome)) == []
    assert found(truth, say(log + MEASURED, **outcome)) == ["duplicate"]


def test_the_same_seed_gives_the_same_kills_and_evals() -> None:
    def first(seed: int) -> tuple[list[plan.Planned], list[evals.Script]]:
        made = evals.scripts(seed, "/truth", has_timeout=True)
        return list(itertools.islice(plan.hits(seed), 50)), list(itertools.islice(made, 20))

    assert first(7) == first(7)
    assert first(7) != first(8)


def test_an_evals_script_records_its_start_and_end(tmp_path: Path) -> None:
    made = evals.scripts(3, str(tmp_path), has_timeout=False)
    status = next(script for script in made if script.kind == "status")
    path = tmp_path / "cell.slurm"
    path.write_text("\n".join(line for line in status.text.splitlines() if not line.startswith("sleep")))
    done = subprocess.run(["bash", path], env={"SLURM_JOB_ID": "7", "PATH": "/bin:/usr/bin"}, check=False, timeout=30)
    lines = [line.split()[:3] for line in (tmp_path / status.cell).read_text().splitlines()]
    assert lines == [["7", "0", "start"], ["7", "0", f"exit:{done.returncode}"]]
    assert done.returncode != 0
