"""Tests that after a submit killed at any system call, the next one submits nothing twice and loses nothing."""

from __future__ import annotations

import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

import faults
from evalmon_agent.commands.submit import submit
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.submitting.submit_evals import SubmitReport
from experiments import Exp
from faults import Point

pytestmark = [faults.needs_strace, pytest.mark.survives("F20")]

SCRIPTS = ("a", "b")
ALL = Counter(["a_epoch0.slurm", "b_epoch0.slurm", "evalmon-completion", "evalmon-sidecar"])
IN_FLIGHT = 0.1
"""The fake sbatch takes a job within milliseconds, or, killed with its submitter, never."""


def new(directory: Path) -> Exp:
    exp = Exp(directory)
    for name in SCRIPTS:
        exp.write_script(name)
    return exp


def submitted(exp: Exp, sleep: Callable[[float], object] = lambda _: time.sleep(IN_FLIGHT)) -> SubmitReport:
    environ = exp.slurm.environ
    return submit(
        exp.session(Settings(poll_interval=1.0), environ=environ),
        named=(),
        mode="sidecar",
        dry_run=False,
        sleep=sleep,  # type: ignore[arg-type]
    )


def settles(exp: Exp) -> None:
    """Submit again, undisturbed, and check that everything is in Slurm once, registered with Slurm's id."""
    submitted(exp)
    accepted = exp.slurm.accepted()
    assert Counter(script for _, script in accepted) == ALL
    on_record = {
        entry.accepted.job_id: entry.submission.name or f"evalmon-{entry.submission.what}"
        for entry in exp.experiment.ledger.entries()
        if entry.accepted is not None
    }
    assert sorted(on_record) == sorted(job_id for job_id, _ in accepted)
    assert {name for name in on_record.values() if name.startswith("r1")} == {"r1/a/epoch0", "r1/b/epoch0"}
    state = exp.state()
    assert {ev["job_id"] for ev in state["evals"].values()} == {i for i, script in accepted if script.endswith("slurm")}
    assert state["completion"]["job_id"] == next(i for i, script in accepted if script == "evalmon-completion")
    assert state["sidecar"]["job_id"] == next(i for i, script in accepted if script == "evalmon-sidecar")
    assert len(exp.blocks("COMPLETION_SUBMITTED")) == 1
    waits_for = [call for call in exp.slurm.calls("sbatch") if "afterany" in call and "evalmon-completion" in call]
    evals = [job_id for job_id, script in accepted if script.endswith("slurm")]
    assert any(f"--dependency=afterany:{':'.join(evals)}" in call for call in waits_for)


def points_of(directory: Path) -> list[Point]:
    exp = new(directory / "whole")
    found = faults.points(lambda: submitted(exp), directory / "trace")
    settles(exp)
    return found


def kill_everywhere(directory: Path, *, step: int) -> int:
    chosen = points_of(directory)[::step]
    for number, point in enumerate(chosen):
        exp = new(directory / str(number))
        faults.killed_at(lambda exp=exp: submitted(exp), point)  # type: ignore[misc]
        with faults.noted(f"killed at {point}"):
            settles(exp)
        shutil.rmtree(directory / str(number))
    return len(chosen)


def test_a_kill_at_a_system_call_submits_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    assert kill_everywhere(tmp_path, step=19) > 15


@pytest.mark.full
def test_a_kill_at_any_system_call_submits_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    assert kill_everywhere(tmp_path, step=1) > 300


HANGS = "kill -STOP $$\n"


@pytest.mark.parametrize("script", ["a_epoch0.slurm", "b_epoch0.slurm", "evalmon-completion", "evalmon-sidecar"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_after_a_kill_while_sbatch_runs_its_job_is_found(tmp_path: Path, script: str, when: str) -> None:
    """`before`: sbatch is killed too, before Slurm has the job. `after`: Slurm accepted it; its id was not read."""
    exp = new(tmp_path)
    hook = exp.slurm.before if when == "before" else exp.slurm.after
    hook("sbatch", f'case "$*" in *{script}*) {HANGS} ;; esac\n')
    pid = faults.forked(lambda: submitted(exp))
    faults.os.kill(pid, signal.SIGCONT)
    faults.wait_until(lambda: any(script in call for call in exp.slurm.calls("sbatch")))
    if when == "after":
        faults.wait_until(lambda: any(script == name for _, name in exp.slurm.accepted()))
    faults.os.kill(pid, signal.SIGKILL)
    faults.os.waitpid(pid, 0)
    exp.slurm.mend("sbatch")
    settles(exp)


def test_an_sbatch_that_prints_an_id_and_fails_has_submitted_the_job(tmp_path: Path) -> None:
    exp = new(tmp_path)
    exp.slurm.after("sbatch", "echo 'error: after all' >&2; exit 1\n")
    report = submitted(exp)
    assert not report.refused
    settles(exp)


def test_a_submission_that_times_out_before_it_prints_an_id_is_looked_for(tmp_path: Path) -> None:
    exp = new(tmp_path)
    exp.slurm.before("sbatch", 'case "$*" in *a_epoch0*) echo "Socket timed out" >&2; exit 1 ;; esac\n')
    report = submitted(exp)
    assert [one["name"] for one in report.refused] == ["r1/a/epoch0"]
    assert "run the same command again to find out" in report.refused[0]["error"]
    assert report.exit_status == 1
    exp.slurm.mend("sbatch")
    # The job may still arrive: it is submitted again only after it was looked for twice.
    looked: list[float] = []
    report = submitted(exp, sleep=looked.append)
    assert len(looked) == 1
    assert [one["name"] for one in report.submitted] == ["r1/a/epoch0"]


def test_a_late_job_is_found_by_the_second_search(tmp_path: Path) -> None:
    exp = new(tmp_path)
    exp.slurm.before("sbatch", 'case "$*" in *a_epoch0*) echo "Socket timed out" >&2; exit 1 ;; esac\n')
    submitted(exp)
    exp.slurm.mend("sbatch")
    calls = [call for call in exp.slurm.calls("sbatch") if "a_epoch0" in call]

    def arrives(_: float) -> None:
        Slurm(exp.slurm.environ).submit(calls[0].split(" "), cwd="/")

    report = submitted(exp, sleep=arrives)
    assert report.submitted == []
    # The first completion job does not depend on it, so another one replaces it.
    assert report.completion is not None
    assert report.completion.detail == "after 2 jobs"
    assert Counter(script for _, script in exp.slurm.accepted()) == ALL + Counter(["evalmon-completion"])
    first = next(job_id for job_id, script in exp.slurm.accepted() if script == "evalmon-completion")
    assert exp.slurm.calls("scancel") == [f"scancel -Q {first}"]


def test_an_incomplete_answer_is_no_proof_that_a_job_is_missing(tmp_path: Path) -> None:
    exp = new(tmp_path)
    exp.slurm.after("sbatch", f'case "$*" in *b_epoch0*) {HANGS} ;; esac\n')
    pid = faults.forked(lambda: submitted(exp))
    faults.os.kill(pid, signal.SIGCONT)
    faults.wait_until(lambda: len(exp.slurm.accepted()) == 2)
    faults.os.kill(pid, signal.SIGKILL)
    faults.os.waitpid(pid, 0)
    exp.slurm.mend("sbatch")
    exp.observer().observe_once(at_least_s=0)
    (exp.slurm.directory / "queue").rename(exp.slurm.directory / "hidden")
    with pytest.raises(Exception, match="squeue shows no job at all"):
        submitted(exp)
    (exp.slurm.directory / "hidden").rename(exp.slurm.directory / "queue")
    settles(exp)


def test_two_submits_at_once_submit_each_script_once(tmp_path: Path) -> None:
    exp = new(tmp_path)
    exp.slurm.before("sbatch", "sleep 0.05\n")
    assert faults.crowd(4, lambda _: submitted(exp)) == [0] * 4
    evals = Counter(script for _, script in exp.slurm.accepted() if script.endswith("slurm"))
    assert evals == Counter({"a_epoch0.slurm": 1, "b_epoch0.slurm": 1})
