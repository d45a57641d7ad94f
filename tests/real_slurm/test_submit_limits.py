"""Tests more evals than a real Slurm lets one user submit: all run in the end, never too many at once."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from as_root import has_root
from real_slurm.cluster import Cluster, Exp, most_at_once, wait_for

pytestmark = pytest.mark.slurm

SetLimit = Callable[[int], None]


@pytest.fixture
def limit(cluster: Cluster) -> Iterator[SetLimit]:
    """Sets how many jobs one user may have submitted."""
    if not has_root:
        pytest.skip("needs root, or sudo without a password")

    def set_limit(most: int) -> None:
        cluster.as_root("sacctmgr", "-i", "modify", "qos", "normal", "set", f"MaxSubmitJobsPerUser={most}")

    try:
        yield set_limit
    finally:
        set_limit(-1)


def names_of(number: int) -> list[str]:
    return [f"r1/t/epoch{epoch}" for epoch in range(number)]


@pytest.mark.full
def test_with_max_submit_all_run_and_never_more_at_once(exp: Exp, limit: SetLimit) -> None:
    limit(6)
    exp.settings(max_submit=3)
    for epoch in range(7):
        exp.script("r1", f"t_epoch{epoch}", 'echo "$HF_TOKEN" >token; sleep 2\n')
    done = exp.evalmon("submit", str(exp.root), HF_TOKEN="hf_secret")
    assert (done.returncode, done.stdout.count("not submitted yet: ")) == (0, 4), done
    assert "7 jobs found" in exp.blocks("STATUS_CHECK")[0]
    assert "4 UNSUBMITTED" in exp.blocks("STATUS_CHECK")[0]
    exp.wait_complete(timeout=120)
    assert Counter(exp.summary()["verdicts"]) == Counter({"ok": 7})
    assert most_at_once(exp, names_of(7)) == 3
    assert len(exp.blocks("ALL_COMPLETE")) == 1
    assert [path.read_text() for path in sorted(exp.root.glob("r1/eval/*/token"))] == ["hf_secret\n"] * 7
    assert subprocess.run(["grep", "-rl", "hf_secret", exp.ours], check=False, capture_output=True).stdout == b""


@pytest.mark.full
def test_completion_jobs_alone_submit_all_round_by_round(exp: Exp) -> None:
    exp.settings(max_submit=2, mode="dependency")
    for epoch in range(5):
        exp.script("r1", f"t_epoch{epoch}", "sleep 1\n")
    assert exp.submit().returncode == 0
    exp.wait_complete(timeout=120)
    assert exp.summary()["verdicts"]["ok"] == 5
    assert most_at_once(exp, names_of(5)) == 2
    assert len(exp.blocks("ALL_COMPLETE")) == 1


@pytest.mark.full
@pytest.mark.survives("F20")
def test_the_sidecar_waits_for_a_sites_job_limit(exp: Exp, limit: SetLimit) -> None:
    limit(12)
    for epoch in range(15):
        exp.script("r1", f"t_epoch{epoch}", "sleep 12\n")
    done = exp.submit("--json")
    report = json.loads(done.stdout)
    # Ten evals, the sidecar, one more eval; the completion job had no room.
    assert (len(report["submitted"]), len(report["waiting"]), report["refused"]) == (11, 4, [])
    assert (report["sidecar"]["status"], report["completion"]["status"]) == ("submitted", "refused")
    assert "QOSMaxSubmitJobPerUserLimit" in exp.blocks("SUBMISSION_WAITS")[0]
    exp.wait_complete(timeout=150)
    assert exp.summary()["verdicts"]["ok"] == 15
    assert exp.blocks("COMPLETION_SUBMITTED")
    assert len(exp.blocks("ALL_COMPLETE")) == 1


@pytest.mark.full
def test_stagger_separates_the_starts_of_evals(exp: Exp) -> None:
    exp.settings(stagger=3)
    for epoch in range(4):
        exp.script("r1", f"t_epoch{epoch}", "sleep 1\n")
    assert exp.submit().returncode == 0
    exp.wait_complete()
    stamps = sorted(exp.cluster.sacct(exp.job(name), "Submit")[0][0] for name in names_of(4))
    seconds = [int(stamp[-2:]) + 60 * int(stamp[-5:-3]) for stamp in stamps]
    assert all((later - earlier) % 3600 >= 2 for earlier, later in itertools.pairwise(seconds))


@pytest.mark.survives("F17", "F20")
def test_an_unobserved_job_of_a_killed_submit_is_found_in_accounting(exp: Exp, tmp_path: Path) -> None:
    """Cancelled before it started, it reported nothing; squeue has forgotten it; sacct has its sbatch line."""
    exp.script("r1", "gone_epoch0", "true\n", header="#!/bin/bash\n#SBATCH --hold\n#SBATCH --time=5\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    real = {name: exp.cluster.run("sh", "-c", f"command -v {name}").stdout.strip() for name in ("sbatch", "squeue")}
    (tools / "sbatch").write_text(f'#!/bin/sh\n{real["sbatch"]} "$@" >{tmp_path}/id\nkill -STOP $$\n')
    (tools / "squeue").write_text(f'#!/bin/sh\n{real["squeue"]} "$@" | grep -v /cell.slurm\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    environ = {**exp.cluster.environ, "PATH": f"{tools}:{exp.cluster.environ['PATH']}"}
    words = [sys.executable, "-m", "evalmon_agent", "submit", str(exp.root), "--mode", "dependency"]
    with subprocess.Popen(words, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as submitting:
        wait_for(lambda: (tmp_path / "id").read_text().strip(), 30)
        os.kill(submitting.pid, signal.SIGKILL)
    job = (tmp_path / "id").read_text().strip()
    exp.cluster.run("scancel", job)
    wait_for(lambda: any(line for _, line in exp.cluster.sacct(job, "State", "SubmitLine")), 30)
    (tools / "sbatch").unlink()
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False, timeout=90)
    assert (done.returncode, f"skipped r1/gone/epoch0  job {job}: already registered (submitted)" in done.stdout) == (
        0,
        True,
    ), done
    assert exp.evalmon("report", str(exp.root)).returncode == 1
    [ev] = exp.evals().values()
    assert (ev["job_id"], ev["state"], ev["verdict"]) == (job, "CANCELLED", "failed")
