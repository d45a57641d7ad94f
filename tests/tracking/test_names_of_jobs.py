"""Tests the name of a job that reports itself without one: its script's path, or its job name once squeue was asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evalmon_agent.tracking.records import Logged, Recovered
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.states import State
from tracking.rows import JOB, Told, queue, report, reported, row, told

UNNAMED = report(reported(), name=None)
SCRIPT = "/exp/r8/eval/t_epoch0/cell.slurm"


def named(facts: Facts, *rows_of: str, job_name: str = "cell.slurm", job_id: str = JOB) -> list[str]:
    rows = [row(State.RUNNING, start=5, command=command, name=job_name, job_id=job_id) for command in rows_of]
    return list(Told(Facts(reports=facts.reports, queue=queue(10, *rows).queue)).state.evals)


@pytest.mark.parametrize("command", [SCRIPT, f"{SCRIPT} --seed 3"])
def test_a_script_below_the_experiment_gives_the_name(command: str) -> None:
    assert ["r8/t/epoch0"] == named(UNNAMED, command)
    assert ["r8/t/epoch0"] == named(UNNAMED, command, job_name="another")


def test_a_path_with_blanks_is_completed_by_the_jobs_name() -> None:
    assert ["r8/my t/epoch0"] == named(UNNAMED, "/exp/r8/eval/my t_epoch0/cell.slurm x")


@pytest.mark.parametrize("command", ["/elsewhere/cell.slurm", "", "/expx/cell.slurm"])
def test_any_other_job_is_named_by_its_job_name(command: str) -> None:
    assert ["my job"] == named(UNNAMED, command, job_name="my job")


def test_a_job_that_squeue_lacks_has_its_reported_name_or_its_id() -> None:
    [said] = UNNAMED.reports
    assert ["cell"] == named(Facts(reports=[replace(said, job_name="cell")]))
    assert [JOB] == named(UNNAMED)


def test_an_array_task_has_its_number() -> None:
    assert ["r8/t/epoch0[3]"] == named(report(reported(), name=None, job_id="123_3"), SCRIPT, job_id="123_3")


def test_the_second_of_two_jobs_with_one_name_gets_its_id() -> None:
    rows = [row(State.RUNNING, job_id=job_id, start=5, command="", name="eval") for job_id in ("11", "12")]
    reports = [report(reported(), name=None, job_id=job_id).reports[0] for job_id in ("11", "12")]
    assert ["eval", "eval-12"] == list(Told(Facts(reports=reports, queue=queue(10, *rows).queue)).state.evals)


def test_the_name_waits_until_squeue_was_asked() -> None:
    found = Told(UNNAMED)
    assert {} == found.state.evals
    found.take(Facts(reports=UNNAMED.reports, queue=queue(10, row(State.RUNNING, start=5, command=SCRIPT)).queue))
    assert ["r8/t/epoch0"] == list(found.state.evals)


def test_the_name_in_the_log_is_kept_after_a_lost_state() -> None:
    found = Told()
    found.state.recovered = Recovered(logged={"r8/t/epoch0": [Logged(JOB, State.RUNNING)]})
    found.take(UNNAMED)
    assert ["r8/t/epoch0"] == list(found.state.evals)


def test_the_script_of_an_unregistered_job_is_taken_from_squeue() -> None:
    found = Told(report(reported(), name="given"), queue(10, row(State.RUNNING, start=5, command=f"{SCRIPT} --seed 3")))
    assert (["given"], SCRIPT) == (list(found.state.evals), found.eval.script)


def test_the_script_of_a_registered_job_is_the_registered_one() -> None:
    assert "/exp/r8_lr1e-5/eval/cell.slurm" == told(queue(10, row(State.RUNNING, start=5))).eval.script
