"""Tests the sidecar on a real Slurm: its view of running evals, handing over, refusal and end."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

import second_user
from real_slurm.ahead import begins
from real_slurm.cluster import HEADER, Exp, another_python, wait_for

pytestmark = pytest.mark.slurm

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
WRITES_METRICS = """
echo 'timestamp, utilization.gpu [%], utilization.memory [%], memory.used [MiB], memory.total [MiB], power.draw [W], \
temperature.gpu' >gpu_metrics.csv
for _ in $(seq 12); do
  for use in 30 50; do
    echo "$(date '+%Y/%m/%d %H:%M:%S.%3N'), $use %, 12 %, 3984 MiB, 81920 MiB, 180.40 W, 44" >>gpu_metrics.csv
  done
  sleep 1
done
"""


def submit_one_that_writes_metrics(exp: Exp) -> None:
    exp.settings(gpu_status_every=2)
    exp.script("r1", "busy_epoch0", WRITES_METRICS)
    exp.script("r1", "no_gpu_epoch0", "sleep 10\n")
    assert exp.submit().returncode == 0


@begins(submit_one_that_writes_metrics)
def test_the_gpus_of_running_evals_are_read_from_the_end_of_their_csv(exp: Exp) -> None:
    exp.wait_complete()
    blocks = exp.blocks("RESOURCE_STATUS")
    assert blocks
    for block in blocks:
        pattern = rf"\[{STAMP}\] RESOURCE_STATUS: r1/busy/epoch0\nGPU Utilization: 40% \| GPU Memory: 7\.8/160\.0 GB"
        assert re.fullmatch(pattern, block), block
    assert exp.evals()["r1/busy/epoch0"]["gpu"]["utilization_mean_pct"] == 40
    assert exp.evals()["r1/no_gpu/epoch0"]["gpu"] is None


def submit_more_than_there_are_gpus(exp: Exp) -> None:
    for epoch in range(6):
        header = HEADER.replace("--time=5", "--time=15") + "#SBATCH --gres=gpu:1\n"
        exp.script("r1", f"gpu_epoch{epoch}", "sleep 6\n", header=header)
    assert exp.submit().returncode == 0


@begins(submit_more_than_there_are_gpus)
def test_the_sidecar_starts_while_evals_wait_for_gpus(exp: Exp) -> None:
    exp.wait_complete()
    assert exp.log().index("MONITOR_STARTED: sidecar") < exp.log().index("STATE_CHANGE: r1/gpu/epoch5")


def test_monitor_jobs_output_is_private_whatever_the_umask(exp: Exp) -> None:
    exp.script("r1", "ok_epoch0", "umask >said\n")
    before = os.umask(0)
    try:
        assert exp.submit().returncode == 0
    finally:
        os.umask(before)
    exp.wait_complete()
    modes = {path.name.partition("-")[0]: path.stat().st_mode & 0o777 for path in exp.ours.glob("*.out")}
    assert modes == {"sidecar": 0o600, "completion": 0o600}
    [said] = exp.root.rglob("said")
    assert said.read_text() == "0000\n"


@pytest.mark.survives("S1")
def test_a_monitor_job_does_not_print_through_a_planted_link(exp: Exp, tmp_path: Path) -> None:
    exp.settings(sidecar={"extra": ["--hold"]})
    exp.script("r1", "ok_epoch0", "sleep 1\n")
    assert exp.submit().returncode == 0
    queued = exp.cluster.run("squeue", "-h", "-n", "evalmon-sidecar", "-o", "%A|%Z").stdout.splitlines()
    [sidecar] = [line.partition("|")[0] for line in queued if line.endswith(str(exp.root))]
    precious = tmp_path / "precious"
    precious.write_text("mine")
    exp.ours.rename(tmp_path / "away")
    exp.ours.mkdir()
    exp.ours.chmod(0o777)
    second_user.give(exp.ours)
    (exp.ours / "registry.jsonl").touch()
    (exp.ours / f"sidecar-{sidecar}.out").symlink_to(precious)
    exp.cluster.run("scontrol", "release", sidecar)
    exp.wait_state(sidecar, "COMPLETED", "FAILED")
    assert precious.read_text() == "mine"


def submit_one_that_outlasts_its_sidecar(exp: Exp) -> None:
    exp.settings(sidecar={"time": "00:01:00"})
    exp.script("r1", "long_epoch0", "sleep 75\n")
    assert exp.submit().returncode == 0


@pytest.mark.survives("F19")
@begins(submit_one_that_outlasts_its_sidecar, group="minute")
def test_a_sidecar_hands_over_before_its_time_limit(exp: Exp) -> None:
    exp.wait_complete(timeout=150)
    stopped = exp.blocks("MONITOR_STARTED")
    assert len(stopped) == 2
    assert re.search(r"Reason: handed over to job \d+ before the time limit", exp.blocks("MONITOR_STOPPED")[0])
    assert exp.transitions("r1/long/epoch0") == [("PENDING", "RUNNING"), ("RUNNING", "COMPLETED")]
    assert len(exp.blocks("ALL_COMPLETE")) == 1


def submit_with_a_sidecar_that_slurm_refuses(exp: Exp) -> None:
    exp.settings(sidecar={"extra": ["--partition=nowhere"]})
    exp.script("r1", "ok_epoch0", "sleep 1\n")
    done = exp.submit()
    assert done.returncode == 1
    assert "sidecar: refused: " in done.stderr
    assert "invalid partition" in done.stderr


@pytest.mark.survives("F20")
@begins(submit_with_a_sidecar_that_slurm_refuses)
def test_a_refused_sidecar_is_reported_and_everything_else_works(exp: Exp) -> None:
    exp.wait_complete()
    assert exp.summary()["verdicts"]["ok"] == 1


def submit_again_after_the_sidecar_was_killed(exp: Exp) -> None:
    exp.script("r1", "long_epoch0", "until [ -e go ]; do sleep 0.2; done\n")
    assert exp.submit().returncode == 0
    first = exp.state()["sidecar"]["job_id"]
    exp.cluster.run("scancel", "-s", "KILL", "-f", first)
    wait_for(lambda: exp.cluster.run("squeue", "-h", "-j", first, "-t", "R,CG,PD").stdout == "", 20)
    done = exp.submit()
    assert (done.returncode, "sidecar: submitted" in done.stdout) == (0, True)
    (exp.root / "r1/eval/long_epoch0/go").touch()


@pytest.mark.survives("F19")
@begins(submit_again_after_the_sidecar_was_killed)
def test_after_a_kill_of_the_sidecar_the_next_submit_starts_another(exp: Exp) -> None:
    exp.wait_complete()
    assert exp.transitions("r1/long/epoch0") == [("PENDING", "RUNNING"), ("RUNNING", "COMPLETED")]


def test_stop_ends_the_monitoring_and_no_eval_and_report_still_shows_the_end(exp: Exp) -> None:
    exp.script("r1", "on_epoch0", "until [ -e go ]; do sleep 0.2; done; exit 3\n")
    assert exp.submit().returncode == 0
    job = exp.job("r1/on/epoch0")
    exp.wait_state(job, "RUNNING")
    assert exp.evalmon("status", str(exp.root)).returncode == 3
    stopped = exp.evalmon("stop", str(exp.root))
    assert (stopped.returncode, "(cancelled jobs " in stopped.stdout) == (0, True)
    (exp.root / "r1/eval/on_epoch0/go").touch()
    wait_for(lambda: exp.cluster.sacct(job, "State") == [["FAILED"]], 30)
    # While squeue still has the job as COMPLETING it is running.
    wait_for(lambda: exp.evalmon("report", str(exp.root)).returncode == 1, 30, exp.log)
    assert exp.summary()["complete"]
    assert exp.transitions("r1/on/epoch0") == [("PENDING", "RUNNING"), ("RUNNING", "FAILED")]
    assert exp.evalmon("status", str(exp.root)).returncode == 1
    assert len(exp.blocks("ALL_COMPLETE")) == 1


def submit_one_whose_interpreter_is_gone(exp: Exp) -> None:
    exp.settings(poll_interval=1)
    exp.script("r1", "mute_epoch0", "sleep 9\n", header=HEADER + "#SBATCH --hold\n")
    exp.script("r1", "loud_epoch0", "sleep 9\n")
    mute = str(exp.root / "r1/eval/mute_epoch0/cell.slurm")
    venv = exp.root.with_name("venv")
    assert exp.submit(mute, "--mode", "dependency", python=another_python(venv)).returncode == 0
    shutil.rmtree(venv)
    assert exp.submit().returncode == 0
    exp.cluster.run("scontrol", "release", exp.job("r1/mute/epoch0"))


@begins(submit_one_whose_interpreter_is_gone)
def test_an_eval_without_a_report_is_reported_once_with_the_interpreters_path(exp: Exp) -> None:
    exp.wait_complete()
    [alert] = exp.blocks("ALERT")
    assert "ALERT: r1/mute/epoch0 runs without reporting\n" in alert
    assert f"\nInterpreter: {sys.executable}\n" in alert
