"""Tests evals in a partition that `squeue` and `sinfo` hide from ordinary users (Hidden=YES)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from real_slurm.cluster import HEADER, Exp

pytestmark = [pytest.mark.slurm, pytest.mark.survives("S15")]

IN_HIDDEN = f"{HEADER}#SBATCH --partition=hidden\n"


@pytest.fixture(autouse=True)
def _hidden(exp: Exp) -> None:
    if exp.cluster.run("scontrol", "-a", "show", "partition", "hidden").returncode != 0:
        pytest.skip("this Slurm has no partition `hidden`")


def jobs(exp: Exp, name: str) -> list[str]:
    listed = exp.cluster.run("squeue", "-a", "-h", "--me", "-t", "all", "-n", name, "-o", "%i %Z").stdout.splitlines()
    return [line.split()[0] for line in listed if f"{exp.root}/" in line]


def test_an_eval_is_submitted_once_although_sbatchs_answer_was_lost(exp: Exp, tmp_path: Path) -> None:
    exp.script("r1", "lost_epoch0", "true\n", header=f"{IN_HIDDEN}#SBATCH --hold\n", name="lost.slurm")
    sbatch = exp.cluster.run("sh", "-c", "command -v sbatch").stdout.strip()
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "sbatch").write_text(f'#!/bin/sh\n{sbatch} "$@" >/dev/null\nkill -9 $$\n')
    (tools / "sbatch").chmod(0o755)
    words = ("submit", str(exp.root), "--mode", "dependency")
    exp.evalmon(*words, PATH=f"{tools}:{exp.cluster.environ['PATH']}")
    assert len(jobs(exp, "lost.slurm")) == 1
    done = exp.evalmon(*words)
    assert (done.returncode, len(jobs(exp, "lost.slurm"))) == (0, 1), done


def test_the_completion_job_respects_the_partitions_time_limit(exp: Exp) -> None:
    exp.script("r1", "t_epoch0", "sleep 2\n", header=IN_HIDDEN)
    assert exp.submit("--mode", "dependency").returncode == 0
    exp.wait_complete()
    assert exp.evals()["r1/t/epoch0"]["verdict"] == "ok"


def test_watch_finds_a_job_by_its_name(exp: Exp) -> None:
    script = exp.script("r1", "t_epoch0", "sleep 60\n", header=IN_HIDDEN)
    job = exp.cluster.run("sbatch", "--parsable", "--job-name=hidden_one", script.name, cwd=str(script.parent)).stdout
    done = exp.evalmon("watch", str(exp.root), "--match", "hidden_*", "--mode", "dependency")
    assert (done.returncode, f"job {job.strip()} " in done.stdout) == (0, True), done


def test_doctor_lists_the_partition_and_accepts_it_for_monitor_jobs(exp: Exp) -> None:
    exp.settings(completion={"partition": "hidden"})
    done = exp.evalmon("doctor", str(exp.root), "--json")
    found = {row["check"]: row for row in json.loads(done.stdout)}
    assert "hidden 00:10:00" in found["partitions"]["line"]
    assert "completion.partition" not in found
