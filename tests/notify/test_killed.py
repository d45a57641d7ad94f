"""Tests that a kill of an observer or a sender at any system call loses no notification and makes none twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import faults
from evalmon_agent.experiment import settings_file
from evalmon_agent.notify.deliver import Ended, Journal, began, send_due
from experiments import Exp, ended, running

pytestmark = faults.needs_strace


def new(directory: Path, *, sends: bool) -> Exp:
    """Three running evals; one of them is about to be over, and so is a long outage."""
    exp = Exp(directory)
    command = ["sh", "-c", f"cat >>{exp.root}/events.jsonl"]
    settings = {"poll_interval": 1, "seff_retry_delay": 0, "alert_after": 1, "notify_command": command}
    (exp.root / "evalmon.yaml").write_text(json.dumps(settings))
    exp.settings = settings_file.load(exp.experiment.settings, environ=exp.slurm.environ)
    exp.register(r1_a="11", r1_b="12", r1_c="13")
    exp.slurm.show([running("11"), running("12"), running("13")])
    if not sends:
        Journal(exp.experiment).append(began(0.0))  # as if this process were sending: no observer starts another
    exp.slurm.fail("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    exp.observer().observe_once(at_least_s=0)
    exp.slurm.mend("squeue")
    exp.slurm.show([ended("11"), ended("12", "FAILED", exit_code="3:0"), ended("13", "TIMEOUT")])
    return exp


def made(exp: Exp) -> Counter[str]:
    """How often the journal has each event, by its title."""
    lines = (exp.ours / "notifications.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines if line.startswith('{"type":"event"') and line.endswith("}")]
    return Counter(record["notification"]["title"] for record in records)


def observer_killed(directory: Path, *, step: int) -> int:
    whole = new(directory / "whole", sends=False)
    points = faults.points(whole.observe_to_the_end, directory / "trace")
    assert len(made(whole)) == 5
    assert any(title.startswith("1 of 3 evals succeeded; 2 need you") for title in made(whole))
    for number, point in enumerate(points[::step]):
        exp = new(directory / str(number), sends=False)
        faults.killed_at(exp.observe_to_the_end, point)
        exp.observe_to_the_end()
        exp.observe_to_the_end()
        assert sorted(made(exp).values()) == [1] * 5, point
    return len(points[::step])


def test_a_kill_of_an_observer_at_a_system_call_loses_and_doubles_no_event(tmp_path: Path) -> None:
    assert observer_killed(tmp_path, step=19) > 6


@pytest.mark.full
def test_a_kill_of_an_observer_at_any_system_call_loses_and_doubles_no_event(tmp_path: Path) -> None:
    assert observer_killed(tmp_path, step=1) > 100


def sender_killed(directory: Path, *, step: int) -> int:
    def send(exp: Exp) -> None:
        send_due(exp.experiment, exp.settings, exp.slurm.environ, is_last_try=True)

    def ready(name: str) -> Exp:
        exp = new(directory / name, sends=False)
        exp.observe_to_the_end()
        Journal(exp.experiment).append(Ended(0.0))
        return exp

    whole = ready("whole")
    points = faults.points(lambda: send(whole), directory / "trace")
    assert len(delivered(whole)) == 5
    for number, point in enumerate(points[::step]):
        exp = ready(str(number))
        faults.killed_at(lambda exp=exp: send(exp), point)  # type: ignore[misc]
        marked = {record["id"] for record in sent(exp)}
        send(exp)
        after = Counter(event["id"] for event in delivered(exp))
        assert len(after) == 5, point
        twice = {key for key, times in after.items() if times > 1}
        assert max(after.values()) <= 2, point
        assert not twice & marked, point
        assert len(twice) <= 1, point
        send(exp)
        assert Counter(event["id"] for event in delivered(exp)) == after
    return len(points[::step])


def delivered(exp: Exp) -> list[dict[str, Any]]:
    path = exp.root / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def sent(exp: Exp) -> list[dict[str, Any]]:
    lines = (exp.ours / "notifications.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith('{"type":"sent"') and line.endswith("}")]


def test_a_kill_of_a_sender_at_a_system_call_loses_nothing_and_doubles_at_most_one(tmp_path: Path) -> None:
    assert sender_killed(tmp_path, step=13) > 5


@pytest.mark.full
def test_a_kill_of_a_sender_at_any_system_call_loses_nothing_and_doubles_at_most_one(tmp_path: Path) -> None:
    assert sender_killed(tmp_path, step=1) > 60
