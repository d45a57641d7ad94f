"""Tests evals and the sidecar when a real Slurm preempts, requeues or kills jobs, or loses their node."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

import as_root
from real_slurm.cluster import HEADER, Cluster, Exp, wait_for

pytestmark = pytest.mark.slurm

ONCE_MORE = 'if [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then sleep 120; fi\n'
RAN = [("PENDING", "RUNNING")]


def preempt(exp: Exp) -> None:
    """A job of a higher partition that takes both nodes for a moment."""
    wants = ["-p", "debug", "-N2", "--exclusive", "--time=1", "-o", "/dev/null", "--wrap", "sleep 1"]
    done = exp.cluster.run("sbatch", *wants, cwd=str(exp.root))
    assert done.returncode == 0, done.stderr


def in_partition(name: str) -> str:
    return f"{HEADER}#SBATCH --partition={name}\n"


def wait_running(exp: Exp, *names: str) -> None:
    for name in names:
        wait_for(lambda name=name: exp.job(name), 30, exp.log)
        exp.wait_state(exp.job(name), "RUNNING")


@pytest.mark.survives("F18", "F19")
def test_preempted_evals_and_a_preempted_sidecar_continue_where_slurm_allows_it(exp: Exp) -> None:
    exp.settings(sidecar={"partition": "requeued"}, completion={"partition": "debug"})
    exp.script("r1", "again_epoch0", ONCE_MORE, header=in_partition("requeued"))
    exp.script("r1", "gone_epoch0", "sleep 120\n", header=in_partition("cancelled"))
    assert exp.submit().returncode == 0
    wait_running(exp, "r1/again/epoch0", "r1/gone/epoch0")
    wait_for(lambda: exp.blocks("MONITOR_STARTED") and len(exp.blocks("STATUS_CHECK")) > 1, 30, exp.log)
    preempt(exp)
    exp.wait_complete(timeout=120)
    preempted = [*RAN, ("RUNNING", "PREEMPTED")]
    assert exp.transitions("r1/gone/epoch0") == preempted
    assert exp.transitions("r1/again/epoch0") == [*preempted, ("PREEMPTED", "PENDING"), *RAN, ("RUNNING", "COMPLETED")]
    assert [a["state"] for a in exp.evals()["r1/again/epoch0"]["attempts"]] == ["PREEMPTED", "COMPLETED"]
    assert len(exp.blocks("ALL_COMPLETE")) == 1


@pytest.fixture
def patient(cluster: Cluster) -> Iterator[None]:
    """A job asked to end has the 30 s that Slurm gives by default."""
    path = cluster.directory / "etc" / "slurm.conf"
    before = path.read_text()
    as_root.run("sed", "-i", "s/^KillWait=.*/KillWait=30/", path)
    cluster.as_root("scontrol", "reconfigure")
    yield
    as_root.run("tee", path, input=before)
    cluster.as_root("scontrol", "reconfigure")


@pytest.mark.full
@as_root.needs_root
@pytest.mark.survives("F19")
def test_a_sidecar_preempted_for_good_is_replaced(exp: Exp, patient: None) -> None:
    exp.settings(sidecar={"partition": "cancelled"}, completion={"partition": "debug"})
    exp.script("r1", "again_epoch0", ONCE_MORE, header=in_partition("requeued"))
    assert exp.submit().returncode == 0
    wait_running(exp, "r1/again/epoch0")
    wait_for(lambda: exp.blocks("MONITOR_STARTED") and len(exp.blocks("STATUS_CHECK")) > 1, 30, exp.log)
    preempt(exp)
    wait_for(lambda: len(exp.blocks("MONITOR_STARTED")) == 2, 60, lambda: exp.log() + exp.outputs())
    exp.wait_complete(timeout=120)
    wait_for(lambda: len(exp.blocks("MONITOR_STOPPED")) == 2, 30, exp.log)
    first, last = exp.blocks("MONITOR_STOPPED")
    assert re.search(r"Reason: preempted, handed over to job \d+\n", first)
    assert "Reason: all evaluations are over" in last


def node_of(exp: Exp, job: str) -> str:
    return exp.cluster.run("squeue", "-h", "-j", job, "-o", "%N").stdout.strip()


def usable(cluster: Cluster, node: str) -> bool:
    cluster.as_root("scontrol", "update", f"nodename={node}", "state=resume", check=False)  # is up already
    return cluster.run("sinfo", "-h", "-n", node, "-o", "%T").stdout.split()[0] in {"idle", "mixed", "allocated"}


@pytest.mark.full
@as_root.needs_root
@pytest.mark.survives("F18", "F19")
def test_an_eval_and_the_sidecar_restart_after_their_node_fails(exp: Exp) -> None:
    exp.script("r1", "again_epoch0", ONCE_MORE)
    assert exp.submit().returncode == 0
    wait_running(exp, "r1/again/epoch0")
    wait_for(lambda: exp.blocks("MONITOR_STARTED") and len(exp.blocks("STATUS_CHECK")) > 1, 30, exp.log)
    nodes = {node_of(exp, exp.job("r1/again/epoch0")), node_of(exp, exp.state()["sidecar"]["job_id"])} - {""}
    for node in nodes:
        exp.cluster.as_root("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    for node in nodes:
        wait_for(lambda node=node: usable(exp.cluster, node), 60)
    exp.wait_complete(timeout=120)
    failed = [*RAN, ("RUNNING", "NODE_FAIL"), ("NODE_FAIL", "PENDING")]
    assert exp.transitions("r1/again/epoch0") == [*failed, *RAN, ("RUNNING", "COMPLETED")]
    assert len(exp.blocks("MONITOR_STARTED")) == 2
    assert len(exp.blocks("ALL_COMPLETE")) == 1


EATS = "python3 -c 'x = b\"x\" * (300 << 20)'"


@pytest.mark.survives("F18", "F25", "F27")
def test_out_of_memory_is_reported_even_if_only_a_helper_process_died(exp: Exp) -> None:
    limit = exp.cluster.run("scontrol", "show", "config").stdout
    if "task/cgroup" not in limit:
        pytest.skip("no cgroup v1 controllers here: memory limits are not enforced")
    exp.script("r1", "eater_epoch0", f"exec {EATS}\n")
    exp.script("r1", "by_stander_epoch0", f"{EATS} || true\nsleep 1\nexit 0\n")
    assert exp.submit("--mode", "dependency").returncode == 0
    exp.wait_complete()
    evals = exp.evals()
    assert {ev["state"] for ev in evals.values()} == {"OUT_OF_MEMORY"}
    assert evals["r1/eater/epoch0"]["witnesses"] == {"slurm": "OUT_OF_MEMORY", "self": "signal 9", "agree": True}
    by_stander = evals["r1/by_stander/epoch0"]
    assert by_stander["witnesses"] == {"slurm": "OUT_OF_MEMORY", "self": "exit 0", "agree": False}
    assert "Note: the witnesses disagree: Slurm says OUT_OF_MEMORY, the job itself exit 0" in exp.log()


@pytest.mark.full
@pytest.mark.survives("F18")
def test_a_het_job_and_a_partly_cancelled_array_have_true_ends(exp: Exp) -> None:
    """Slurm keeps no trace of such a task: it is lost, and never reported as completed."""
    het = f"{HEADER}#SBATCH hetjob\n#SBATCH --time=5\n#SBATCH --mem=100\n"
    exp.script("r1", "het_epoch0", "sleep 2; exit 3\n", header=het)
    exp.script("r1", "array_epoch0", "sleep 2\n", header=HEADER + "#SBATCH --array=0-2%1\n")
    exp.settings(lost_after=10)
    assert exp.submit().returncode == 0
    exp.cluster.run("scancel", exp.job("r1/array/epoch0[2]"))
    exp.wait_complete()
    states = {name: ev["state"] for name, ev in exp.evals().items()}
    assert states == {
        "r1/het/epoch0": "FAILED",
        "r1/array/epoch0[0]": "COMPLETED",
        "r1/array/epoch0[1]": "COMPLETED",
        "r1/array/epoch0[2]": "LOST",
    }
    assert exp.transitions("r1/array/epoch0[2]") == [("PENDING", "LOST")]
    assert "it keeps no trace of an array's task that is cancelled before its start" in exp.log()


@pytest.mark.full
@pytest.mark.survives("F18")
def test_an_eval_held_after_a_requeue_is_reported_and_continues_when_released(exp: Exp) -> None:
    exp.settings(poll_interval=1)
    exp.script("r1", "again_epoch0", ONCE_MORE)
    exp.script("r1", "long_epoch0", "true\n", header="#!/bin/sh\n#SBATCH --time=20\n#SBATCH --partition=short\n")
    exp.script("r1", "waits_epoch0", "true\n", header=HEADER + "#SBATCH --hold\n")
    assert exp.submit().returncode == 0
    wait_running(exp, "r1/again/epoch0")
    again, long, waits = (exp.job(f"r1/{name}/epoch0") for name in ("again", "long", "waits"))
    exp.cluster.run("scontrol", "requeuehold", again)
    wait_for(lambda: len(exp.blocks("ALERT")) == 3, 60, exp.log)
    said = "\n".join(exp.blocks("ALERT"))
    assert "r1/long/epoch0 waits: PartitionTimeLimit\n" in said
    assert f"r1/waits/epoch0 waits: JobHeldUser\nJob ID: {waits}\n" in said
    assert re.search(rf"r1/again/epoch0 waits: .*held.*\nJob ID: {again}\n", said, re.IGNORECASE)
    for job in (again, waits):
        exp.cluster.run("scontrol", "release", job)
    exp.cluster.run("scancel", long)
    exp.wait_complete(timeout=120)
    requeued = [*RAN, ("RUNNING", "REQUEUED"), ("REQUEUED", "PENDING")]
    assert exp.transitions("r1/again/epoch0") == [*requeued, *RAN, ("RUNNING", "COMPLETED")]
    assert len(exp.blocks("ALERT")) == 3
