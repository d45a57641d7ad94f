"""Tests inside real jobs that an eval ends in Slurm as it would have without evalmon."""

from __future__ import annotations

import shutil
import sys

import pytest

from real_slurm.ahead import begins
from real_slurm.cluster import HEADER, Exp, another_python, wait_for

pytestmark = pytest.mark.slurm


@pytest.mark.survives("F27")
def test_a_trap_sees_each_signal_once_and_decides_the_end(exp: Exp) -> None:
    exp.script(
        "r1",
        "trap_epoch0",
        "trap 'echo USR1 >>seen' USR1\ntrap 'echo USR2 >>seen' USR2\n"
        "trap 'echo TERM >>seen; exit 7' TERM\ntouch ready\n"
        "while :; do sleep 0.2; done\n",
    )
    assert exp.submit("--mode", "dependency").returncode == 0
    folder = exp.root / "r1/eval/trap_epoch0"
    wait_for((folder / "ready").exists, 30)
    job = exp.job("r1/trap/epoch0")
    exp.cluster.run("scancel", "--batch", "--signal=USR1", job)
    wait_for(lambda: (folder / "seen").read_text(), 10)
    # This one reaches every process of the job, the script itself and evalmon.
    exp.cluster.run("scancel", "--full", "--signal=USR2", job)
    wait_for(lambda: "USR2" in (folder / "seen").read_text(), 10)
    exp.cluster.run("scancel", job)
    exp.wait_complete()
    assert (folder / "seen").read_text() == "USR1\nUSR2\nTERM\n"
    [ev] = exp.summary()["evals"]
    assert (ev["state"], ev["exit_code"], ev["witnesses"]["self"]) == ("CANCELLED", 7, "exit 7")


def test_a_script_with_the_hook_reports_itself(exp: Exp) -> None:
    hook = f'eval "$({sys.executable} -m evalmon_agent hook --name mine/task/epoch0)"\n'
    path = exp.script("r1", "hooked", hook + "echo body >>ran; exit 3\n", name="own.sh")
    done = exp.cluster.run("sbatch", "--parsable", path.name, cwd=str(path.parent))
    wait_for(lambda: (path.parent / "ran").exists(), 30)
    job = done.stdout.strip()
    wait_for(lambda: exp.cluster.sacct(job, "State") == [["FAILED"]], 30)
    wait_for(lambda: exp.evalmon("report", str(exp.root), "--json").returncode == 1, 30, exp.log)
    [ev] = exp.summary()["evals"]
    assert (ev["name"], ev["job_id"], ev["state"], ev["exit_code"]) == ("mine/task/epoch0", job, "FAILED", 3)
    assert (path.parent / "ran").read_text() == "body\n"


def submit_and_take_the_interpreter_away(exp: Exp) -> None:
    exp.settings(poll_interval=1)
    exp.script("r1", "alone_epoch0", "sleep 8; exit 3\n", header=HEADER + "#SBATCH --hold\n")
    venv = exp.root.with_name("venv")
    done = exp.submit(python=another_python(venv))
    assert (done.returncode, done.stderr) == (0, "")
    shutil.rmtree(venv)
    exp.cluster.run("scontrol", "release", exp.job("r1/alone/epoch0"))


@begins(submit_and_take_the_interpreter_away)
def test_without_a_working_interpreter_the_eval_runs_as_without_evalmon(exp: Exp) -> None:
    wait_for(lambda: exp.cluster.sacct(exp.job("r1/alone/epoch0"), "State", "ExitCode") == [["FAILED", "3:0"]], 60)
    # The sidecar's interpreter is missing as well: the login node reports what happened.
    # (While squeue still has the job as COMPLETING it is running.)
    wait_for(lambda: exp.evalmon("report", str(exp.root)).returncode == 1, 30, exp.log)
    assert exp.transitions("r1/alone/epoch0") == [("PENDING", "RUNNING"), ("RUNNING", "FAILED")]
