"""Tests the progress of running evals, read from their logs in bounded time; unknown progress stays unknown."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from evalmon_agent.collect.collect import progress
from evalmon_agent.evidence.kinds.kind import ObservedProgram, Written
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.tracking.records import ExperimentState, JobReport, SelfReport, Witness
from evalmon_agent.tracking.registry import Registration, Submission
from evalmon_agent.tracking.tracker import Facts
from experiments import record_script
from folding import fold
from zips import Member, zip_of

NOW = time.time()


class Study:
    """Running evals `r/t{n}`, each with its script; `log` writes what inspect-ai would have written so far."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.experiment = Experiment.at(str(root))
        self.experiment.prepare(group_readable=False)
        self.state = ExperimentState(experiment=str(root))

    def eval(self, number: int, script: str = "inspect eval t.py --log-dir ./logs\n", **seen: Any) -> Path:
        name, job_id = f"r/t{number}/epoch0", str(100 + number)
        folder = self.root / "r" / "eval" / f"t{number}_epoch0"
        folder.mkdir(parents=True)
        (folder / "cell.slurm").write_text("#!/bin/bash\n" + script)
        token = f"{number:016x}"
        self.experiment.prepare(group_readable=False)
        record_script(self.experiment, token, str(folder / "cell.slurm"), "#!/bin/bash\n" + script)
        registered = Registration(
            Submission(name, str(folder / "cell.slurm"), str(folder), token=token), job_id, NOW - 100
        )
        told = {"options": {"log-dir": ("./logs",)}, **seen}
        program = ObservedProgram(kind="inspect-ai", started_at=NOW - 55, cwd=str(folder), **told)
        own = JobReport(0, started_at=NOW - 60, eval_programs=[program], witness=Witness("cgroup"))
        report = SelfReport(f"{job_id}.json", "1", job_id, name, str(folder), [own])
        fold(self.state, Facts(registrations=[registered], reports=[report]), lost_after_s=1800)
        return folder

    def so_far(self, **more: float) -> dict[str, tuple[int | None, int | None]]:
        found = progress(self.experiment, self.state, **more)
        return {name: (one.samples_completed, one.samples_total) for name, one in found.items()}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def start(**more: Any) -> bytes:
    created = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(NOW - 50))
    spec = {"created": created, "task": "t", "model": "m", "dataset": {"samples": 12}, "config": {"epochs": 1}}
    return json.dumps({"version": 2, "eval": {**spec, **more}, "plan": {}}).encode()


def log(folder: Path, done: int, *, place: str = "logs", name: str = "a.eval", **more: Any) -> Path:
    members = [Member("_journal/start.json", start(**more))]
    members += [Member(f"samples/{number}_epoch_1.json", b"{}") for number in range(done)]
    path = folder / place / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zip_of(members))
    return path


def test_the_samples_in_a_growing_log_are_counted(study: Study) -> None:
    folder = study.eval(1)
    assert study.so_far() == {}
    log(folder, 3)
    assert study.so_far() == {"r/t1/epoch0": (3, 12)}
    log(folder, 7)
    assert study.so_far() == {"r/t1/epoch0": (7, 12)}


def test_a_log_that_is_being_written_changes_nothing(study: Study) -> None:
    path = log(study.eval(1), 3)
    path.write_bytes(path.read_bytes()[:-9])
    assert study.so_far() == {}


def test_the_log_that_the_program_names_is_read(study: Study) -> None:
    elsewhere = study.root / "elsewhere"
    study.eval(1, "./run.sh\n", wrote=(Written(name="a.eval", path=str(elsewhere / "a.eval"), known_by=("line",)),))
    log(elsewhere, 5, place=".")
    assert study.so_far() == {"r/t1/epoch0": (5, 12)}


def test_an_earlier_attempts_log_does_not_count(study: Study) -> None:
    log(study.eval(1), 5, created="2020-01-01T00:00:00+00:00")
    assert study.so_far() == {}


def test_an_eval_that_is_not_running_is_not_read(study: Study) -> None:
    log(study.eval(1), 5)
    ev = study.state.evals["r/t1/epoch0"]
    assert ev.latest is not None
    assert ev.latest.report is not None
    ended = replace(ev.latest.report, ended_at=NOW - 1, exit_code=0)
    report = SelfReport("101.json", "2", "101", ev.name, None, [ended])
    fold(study.state, Facts(reports=[report]), lost_after_s=1800)
    assert ev.state == "RUNNING"  # Slurm has not reported that yet
    assert study.so_far() == {"r/t1/epoch0": (5, 12)}


def test_a_thousand_running_evals_cost_no_more_than_the_budget(study: Study) -> None:
    for number in range(120):
        log(study.eval(number), 1)
    began = time.process_time()
    found = study.so_far(budget_s=0.02)
    assert 0 < len(found) < 120
    assert time.process_time() - began < 1


def test_a_directory_shared_by_evals_is_read_once(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = study.root / "shared"
    for number in range(40):
        study.eval(number, options={"log-dir": (str(shared),)}, words=(f"t.py@t{number}",))
        log(shared, number, place=".", name=f"{number}.eval", task=f"t{number}")
    assert study.so_far(budget_s=30) == {f"r/t{number}/epoch0": (number, 12) for number in range(40)}


@pytest.mark.survives("S8")
def test_a_hostile_log_of_a_running_eval_is_ignored(study: Study) -> None:
    folder = study.eval(1)
    log(folder, 1).write_bytes(b"PK\5\6" + b"\xff" * 18)
    (folder / "logs" / "results.json").write_bytes(b'{"results": ' + b"[" * 3_000_000)
    assert study.so_far() == {}
