"""Tests that `report` looks for logs again, and that a changed verdict is reported once."""

from __future__ import annotations

import json
import os
from pathlib import Path

import msgspec
import pytest

from collect.test_evidence import Study
from collect.test_foreign import SCRIPT, inspect_log
from evalmon_agent.commands.complete import complete
from evalmon_agent.commands.report import report
from evalmon_agent.commands.status import exit_status
from evalmon_agent.summary.records import EvalSummary
from terminal import Terminal

CLOSING = "\nLog: logs/x.eval\n"


def reported(study: Study) -> EvalSummary:
    [ev] = report(study.exp.session()).evals
    return ev


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """An eval that is over and reported, with a log that cannot be seen yet."""
    found = Study(tmp_path, SCRIPT)
    found.write("slurm-11.out", CLOSING)
    assert found.outcome()["verdict"] == "unverified"
    return found


def with_log(study: Study, **content: object) -> Path:
    path = study.folder / "logs" / "x.eval"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(inspect_log(**content))
    return path


@pytest.mark.parametrize("by", ["report", "the completion job"])
def test_a_log_that_appears_late_is_the_result_and_the_new_verdict_is_reported_once(study: Study, by: str) -> None:
    path = with_log(study)
    for _ in range(2):
        if by == "report":
            assert reported(study).verdict == "ok"
        else:
            complete(study.exp.session(), sleep=lambda _: None)
    assert "The eval succeeded" in (study.exp.ours / "report.html").read_text()
    [block] = study.told("VERDICT_CHANGED")
    changes = ["Previous: unverified", "Current: ok", "Job ID: 11"]
    assert block[:4] == ["VERDICT_CHANGED: r1/a", *changes]
    assert block[4].startswith("Reason: its log says success")
    assert len(study.told("ALL_COMPLETE")) == 1
    assert f"| {path} |" in (study.exp.ours / "summary.md").read_text()


def test_a_log_that_was_scored_again_in_place_is_read_again(study: Study) -> None:
    def scored(value: float) -> dict[str, object]:
        metrics = {"accuracy": {"name": "accuracy", "value": value}}
        scores = [{"name": "match", "scorer": "match", "metrics": metrics}]
        return {"results": {"total_samples": 3, "completed_samples": 3, "scores": scores}}

    path = with_log(study, **scored(0.5))
    assert [result.scores for result in reported(study).results] == [{"match/accuracy": 0.5}]
    before = os.stat(path)
    with_log(study, **scored(0.9))
    os.utime(path, (before.st_atime, before.st_mtime + 1))
    for _ in range(2):
        assert [result.scores for result in reported(study).results] == [{"match/accuracy": 0.9}]
    assert len(study.told("VERDICT_CHANGED")) == 1


def test_a_result_is_kept_when_its_file_is_removed(study: Study) -> None:
    path = with_log(study)
    before = reported(study)
    assert before.verdict == "ok"
    os.unlink(path)
    os.unlink(study.folder / "slurm-11.out")
    after = reported(study)
    assert (after.verdict, after.results) == (before.verdict, before.results)
    assert len(study.told("VERDICT_CHANGED")) == 1


@pytest.mark.parametrize(
    ("counted", "expected"),
    [
        ({"active": 1, "failed": 1, "unverified": 1}, 3),
        ({"failed": 1, "unverified": 1}, 1),
        ({"suspect": 1, "unverified": 1}, 1),
        ({"refused": 1, "unverified": 1}, 1),
        ({"unverified": 1, "ok": 1, "dropped": 1}, 4),
        ({"ok": 1, "dropped": 1}, 0),
    ],
)
def test_the_exit_status_is_that_of_the_worst_verdict(study: Study, counted: dict[str, int], expected: int) -> None:
    summary = report(study.exp.session())
    assert exit_status(summary) == 4
    verdicts = {**dict.fromkeys(summary.verdicts, 0), **counted}
    assert exit_status(msgspec.structs.replace(summary, verdicts=verdicts)) == expected


def test_without_news_nothing_is_reported(study: Study) -> None:
    for _ in range(2):
        assert reported(study).verdict == "unverified"
    assert study.told("VERDICT_CHANGED") == []


def test_a_block_that_a_kill_kept_from_the_log_is_written_by_the_next_command(study: Study) -> None:
    before = (study.exp.ours / "monitor.log").read_bytes()
    with_log(study)
    assert reported(study).verdict == "ok"
    whole = (study.exp.ours / "monitor.log").read_bytes()
    # As after a kill between the save and the append: the block is in the outbox.
    outbox = {"offset": len(before), "text": whole[len(before) :].decode()}
    (study.exp.ours / "state.json").write_text(json.dumps({**study.exp.state(), "outbox": outbox}))
    (study.exp.ours / "monitor.log").write_bytes(before + whole[len(before) :][:9])
    for _ in range(2):
        assert reported(study).verdict == "ok"
    assert (study.exp.ours / "monitor.log").read_bytes() == whole


def test_in_a_terminal_it_fits_and_ends_with_where_the_files_are(study: Study) -> None:
    with_log(study)
    exp = study.exp
    terminal = Terminal(["report", "."], env=exp.slurm.environ, cwd=exp.root, columns=80)
    assert terminal.end() == 0
    lines = terminal.lines
    assert lines[0] == "The eval succeeded"
    assert [line for line in lines if line in {"Needs attention", "Scores", "Evals"}] == ["Evals"]
    assert lines[-2:] == [f"summary: {exp.ours}/summary.md", f"page: {exp.ours}/report.html"]
    assert "|" not in terminal.text
