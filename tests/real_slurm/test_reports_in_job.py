"""Tests under which name a real job reports, and that its own and inherited variables are distinguished."""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import pytest

from real_slurm.ahead import begins
from real_slurm.cluster import HEADER, Exp, wait_for

pytestmark = pytest.mark.slurm

RUN = shlex.join([sys.executable, "-E", "-P", "-m", "evalmon_agent", "run"])


def reports(exp: Exp) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in (exp.ours / "jobs").glob("*.json")}


def submit(exp: Exp, body: str, *options: str, header: str = HEADER) -> str:
    """A job that evalmon did not submit, in an experiment marked by a settings file."""
    path = exp.root / f"job{len(list(exp.root.iterdir()))}.sh"
    path.write_text(header + body)
    done = exp.cluster.run("sbatch", "--parsable", "--output=/dev/null", *options, path.name, cwd=str(exp.root))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def ended(exp: Exp, job: str) -> None:
    wait_for(lambda: not exp.cluster.run("squeue", "-h", "-j", job).stdout, 60)


def statuses(report: dict[str, Any]) -> list[list[int | None]]:
    return [[command["exit_code"] for command in attempt["commands"]] for attempt in report["attempts"]]


def test_parts_and_steps_are_reported(exp: Exp) -> None:
    job = submit(exp, f"{RUN} -- false\nsrun {RUN} -- sh -c 'exit 4'\n{RUN} -- sh -c 'exit 5'\n")
    ended(exp, job)
    found = reports(exp)
    assert {name: statuses(report) for name, report in found.items()} == {job: [[1, 5]], f"{job}.0.0": [[4]]}
    assert {attempt["scope"] for report in found.values() for attempt in report["attempts"]} == {"part"}


def test_array_tasks_and_jobs_submitted_inside_them_report_separately(exp: Exp) -> None:
    """The inner job inherits SLURM_ARRAY_* and SLURM_STEP_ID: the outer task's report stays the outer task's."""
    (exp.root / "inner.sh").write_text(f"{HEADER}exec {RUN} -- sh -c 'exit 6'\n")
    inner = "srun sbatch --parsable --output=/dev/null inner.sh >inner.id"
    array = submit(exp, f"{RUN} -- sh -c 'exit 3'\n{inner}\n", "--array=7")
    ended(exp, array)
    job = (exp.root / "inner.id").read_text().strip()
    ended(exp, job)
    found = reports(exp)
    assert {name: statuses(report) for name, report in found.items()} == {f"{array}_7": [[3]], job: [[6]]}
    assert (found[job]["job_id"], found[job]["raw_id"]) == (job, int(job))
    assert found[job]["attempts"][0]["scope"] == "job"


def test_a_het_job_is_reported_as_one_job(exp: Exp) -> None:
    header = f"{HEADER}#SBATCH hetjob\n#SBATCH --time=5\n#SBATCH --mem=100\n"
    job = submit(exp, f"exec {RUN} -- sh -c 'exit 3'\n", header=header)
    ended(exp, job)
    assert {name: statuses(report) for name, report in reports(exp).items()} == {f"{job}+0": [[3]]}


def submit_one_that_is_requeued(exp: Exp) -> None:
    again = '[ -n "$SLURM_RESTART_COUNT" ] && exit 5; scontrol requeue $SLURM_JOB_ID; sleep 30'
    submit(exp, f"exec {RUN} -- sh -c {shlex.quote(again)}\n", "--requeue")


@begins(submit_one_that_is_requeued)
def test_a_requeue_is_a_second_attempt_of_the_same_report(exp: Exp) -> None:
    wait_for(lambda: [statuses(report) for report in reports(exp).values()] == [[[None], [5]]], 120)
    [report] = reports(exp).values()
    attempts = report["attempts"]
    assert [(attempt["restart"], attempt["exit_code"]) for attempt in attempts] == [(0, None), (1, 5)]


@pytest.mark.parametrize("how", [["--full"], ["--batch"]])
def test_a_signal_reaches_the_batch_script_once(exp: Exp, how: list[str]) -> None:
    trap = "trap 'echo USR1 >>seen' USR1; touch ready; while :; do sleep 0.1; [ -e seen ] && sleep 1 && exit 4; done"
    job = submit(exp, f"exec {RUN} -- bash -c {shlex.quote(trap)}\n")
    wait_for((exp.root / "ready").exists, 60)
    exp.cluster.run("scancel", *how, "--signal=USR1", job)
    ended(exp, job)
    assert (exp.root / "seen").read_text() == "USR1\n"
    assert statuses(reports(exp)[job]) == [[4]]
