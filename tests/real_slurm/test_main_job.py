"""Tests the main use on a real Slurm: submit, walk away, read the summary."""

from __future__ import annotations

import re
import shutil
import time
from collections import Counter

import pytest

from evalmon_agent.figures import from_sacct
from evalmon_agent.slurm import sacct
from evalmon_agent.slurm.environment import FOR_ASKING
from real_slurm.ahead import begins
from real_slurm.cluster import HEADER, Cluster, Exp, wait_for

pytestmark = pytest.mark.slurm

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
PENDING_THEN = [("PENDING", "RUNNING")]
HOSTILE = "it's $(touch canary) `touch canary` \\ %j 100% 日本"


def a_mixed_set(exp: Exp) -> None:
    """An eval of each kind that the issue names."""
    exp.script("r1", "ok_epoch0", "sleep 3\n")
    exp.script("r1", "failed_epoch0", "sleep 1; exit 3\n")
    exp.script("r1", "signalled_epoch0", "sleep 1; kill -SEGV $$\n")
    exp.script("r1", "pending_epoch0", "true\n", header=HEADER + "#SBATCH --hold\n")
    exp.script("r1", "running_epoch0", "sleep 300\n")
    exp.script(
        "r1", "array_epoch0", "sleep 1; exit $((SLURM_ARRAY_TASK_ID == 1))\n", header=HEADER + "#SBATCH -a 0-2\n"
    )
    exp.script(HOSTILE, "task_epoch0", "sleep 1\n")


def cancel_two(exp: Exp) -> None:
    """One eval while it waits, one while it runs."""
    wait_for(lambda: exp.job("r1/running/epoch0"), 20, exp.log)
    exp.wait_state(exp.job("r1/running/epoch0"), "RUNNING")
    time.sleep(1.5)
    jobs = [exp.job("r1/pending/epoch0"), exp.job("r1/running/epoch0")]
    assert exp.cluster.run("scancel", *jobs).returncode == 0


EXPECTED = {
    "r1/ok/epoch0": ([*PENDING_THEN, ("RUNNING", "COMPLETED")], 0, None, "ok"),
    "r1/failed/epoch0": ([*PENDING_THEN, ("RUNNING", "FAILED")], 3, None, "failed"),
    "r1/signalled/epoch0": ([*PENDING_THEN, ("RUNNING", "FAILED")], None, 11, "failed"),
    "r1/pending/epoch0": ([("PENDING", "CANCELLED")], 0, None, "failed"),
    "r1/running/epoch0": ([*PENDING_THEN, ("RUNNING", "CANCELLED")], None, 15, "failed"),
    "r1/array/epoch0[0]": ([*PENDING_THEN, ("RUNNING", "COMPLETED")], 0, None, "ok"),
    "r1/array/epoch0[1]": ([*PENDING_THEN, ("RUNNING", "FAILED")], 1, None, "failed"),
    "r1/array/epoch0[2]": ([*PENDING_THEN, ("RUNNING", "COMPLETED")], 0, None, "ok"),
    f"{HOSTILE}/task/epoch0": ([*PENDING_THEN, ("RUNNING", "COMPLETED")], 0, None, "ok"),
}


def check_outcome(exp: Exp) -> None:
    """Check the exact transitions, and figures equal to sacct's."""
    evals = exp.evals()
    assert set(evals) == set(EXPECTED)
    for name, (transitions, exit_code, signal, verdict) in EXPECTED.items():
        ev = evals[name]
        assert (name, exp.transitions(name)) == (name, transitions)
        assert (name, ev["verdict"]) == (name, verdict)
        if name != "r1/pending/epoch0":
            assert (name, ev["exit_code"], ev["signal"]) == (name, exit_code, signal)
        check_figures(exp.cluster, ev)
    ran = sorted(name for name in EXPECTED if name != "r1/pending/epoch0")
    measured = sorted(re.findall(rf"^\[{STAMP}\] COMPUTE_METRICS: (.*)$", exp.log(), re.MULTILINE))
    assert measured == ran
    assert len(exp.blocks("ALL_COMPLETE")) == 1
    assert "9 evaluations completed - 4 COMPLETED, 3 FAILED, 2 CANCELLED" in exp.blocks("ALL_COMPLETE")[0]
    assert not list(exp.root.rglob("canary"))


def check_figures(cluster: Cluster, ev: dict[str, object]) -> None:
    """Check state, times, limit and elapsed time with sacct."""
    [row] = cluster_row(cluster, str(ev["job_id"]))
    state, elapsed, limit, start, end, submit = row
    assert ev["state"] == state.split()[0]
    assert ev["elapsed_s"] == float(elapsed)
    assert ev["time_limit_s"] == float(limit) * 60
    for key, value in {"ended": end, "submitted": submit, "started": start}.items():
        if value not in {"Unknown", "None"} and ev[key] is not None:
            assert str(ev[key])[:19] == value
    if ev["metrics_source"] is not None:
        assert ev["memory_requested_bytes"] == 100 * 1024**2


def cluster_row(cluster: Cluster, job_id: str) -> list[list[str]]:
    return cluster.sacct(job_id, "State", "ElapsedRaw", "TimelimitRaw", "Start", "End", "Submit")


def submit_a_mixed_set(exp: Exp) -> None:
    a_mixed_set(exp)
    done = exp.submit()
    assert (done.returncode, done.stderr) == (0, "")


def submit_a_mixed_set_and_kill_the_sidecar(exp: Exp) -> None:
    submit_a_mixed_set(exp)
    wait_for(lambda: exp.state()["sidecar"], 20)
    exp.cluster.run("scancel", "-s", "KILL", "-f", exp.state()["sidecar"]["job_id"])


@pytest.mark.survives("F27")
@begins(submit_a_mixed_set)
def test_a_mixed_set_has_exactly_the_right_transitions_and_figures(exp: Exp) -> None:
    cancel_two(exp)
    exp.wait_complete()
    check_outcome(exp)
    assert len(exp.blocks("STATUS_CHECK")) >= 3


@pytest.mark.survives("F19")
@begins(submit_a_mixed_set_and_kill_the_sidecar)
def test_a_mixed_set_is_monitored_without_its_sidecar(exp: Exp) -> None:
    cancel_two(exp)
    exp.wait_complete()
    check_outcome(exp)


@pytest.mark.skipif(shutil.which("seff") is None, reason="no seff is installed (Debian ships none)")
def test_figures_equal_those_of_a_real_seff(exp: Exp) -> None:
    exp.script("r1", "works_epoch0", "timeout 35 sh -c 'while :; do :; done'; true\n")
    assert exp.submit().returncode == 0
    exp.wait_complete(timeout=150)
    [ev] = exp.summary()["evals"]
    asked = exp.cluster.run(*sacct.argv([ev["job_id"]]), env=dict(FOR_ASKING))
    by_sacct = from_sacct(sacct.parse(asked.stdout).jobs[-1])
    assert ev["metrics_source"] == "seff"
    assert abs(ev["elapsed_s"] - by_sacct.elapsed_s) <= 1
    assert abs(ev["cpu_efficiency_pct"] - by_sacct.cpu_efficiency_pct) <= 100 / 35
    assert ev["memory_efficiency_pct"] == pytest.approx(by_sacct.memory_efficiency_pct, abs=0.1)


def submit_one_without_a_sidecar(exp: Exp) -> None:
    exp.script("r1", "ok_epoch0", "sleep 1\n")
    done = exp.submit("--mode", "dependency")
    assert done.returncode == 0
    assert exp.state()["sidecar"] is None


@begins(submit_one_without_a_sidecar)
def test_dependency_mode_needs_no_sidecar(exp: Exp) -> None:
    exp.wait_complete()
    assert exp.transitions("r1/ok/epoch0") == [*PENDING_THEN, ("RUNNING", "COMPLETED")]
    assert Counter(exp.summary()["verdicts"]) == Counter({"ok": 1})


def submit_twice(exp: Exp) -> None:
    exp.script("r1", "first_epoch0", "until [ -e go ]; do sleep 0.2; done\n")
    assert exp.submit().returncode == 0
    first = exp.job("r1/first/epoch0")
    exp.script("r1", "second_epoch0", "sleep 1\n")
    done = exp.submit()
    assert done.returncode == 0
    assert "skipped r1/first/epoch0" in done.stdout
    assert "submitted r1/second/epoch0" in done.stdout
    assert exp.job("r1/first/epoch0") == first
    (exp.root / "r1/eval/first_epoch0/go").touch()


@begins(submit_twice)
def test_a_second_submit_skips_known_evals_and_adds_new_ones(exp: Exp) -> None:
    exp.wait_complete()
    assert len(exp.blocks("ALL_COMPLETE")) == 1
    assert {ev["verdict"] for ev in exp.summary()["evals"]} == {"ok"}
    first = exp.evals()["r1/first/epoch0"]
    assert [attempt["job_id"] for attempt in first["attempts"]] == [first["job_id"]]


def submit_one(exp: Exp) -> None:
    exp.script("r1", "first_epoch0", "true\n")
    assert exp.submit().returncode == 0


@pytest.mark.survives("F20")
@begins(submit_one)
def test_evals_added_after_the_end_are_completed(exp: Exp) -> None:
    exp.wait_complete()
    exp.script("r1", "second_epoch0", "sleep 1\n")
    assert exp.submit().returncode == 0
    wait_for(lambda: len(exp.blocks("ALL_COMPLETE")) == 2, 60, exp.log)
    wait_for(lambda: exp.summary()["complete"], 10)
    assert exp.summary()["counts"] == {"COMPLETED": 2}


def submit_one_that_slurm_refuses(exp: Exp) -> None:
    exp.script("r1", "bad_epoch0", "true\n", header=HEADER + "#SBATCH --partition=nowhere\n")
    exp.script("r1", "good_epoch0", "true\n")
    done = exp.submit()
    assert done.returncode == 1
    plain = exp.cluster.run("sbatch", str(exp.root / "r1/eval/bad_epoch0/cell.slurm"))
    assert plain.stderr.strip().splitlines()[-1] in done.stderr
    assert "r1/eval/bad_epoch0/cell.slurm" in done.stderr


@begins(submit_one_that_slurm_refuses)
def test_a_refused_script_is_reported_verbatim_and_the_others_run(exp: Exp) -> None:
    assert list(exp.state()["evals"]) == ["r1/good/epoch0"]
    exp.wait_complete()


def submit_one_over_its_limit(exp: Exp) -> None:
    exp.script("r8_lr1e-5", "capitalization_epoch0", "mkdir logs; sleep 4\n")
    exp.script("r8_lr1e-5", "capitalization_epoch1", "sleep 61\n", header=HEADER.replace("time=5", "time=1"))
    assert exp.submit().returncode == 0


@pytest.mark.survives("F27")
@begins(submit_one_over_its_limit, group="minute")
def test_the_log_has_the_blocks_of_the_users_text_exactly(exp: Exp) -> None:
    exp.wait_complete(timeout=180)
    log = exp.log()
    for pattern in _USERS_BLOCKS:
        assert re.search(rf"(?:^|\n\n){pattern}\n\n", log), pattern + "\n---\n" + log
    assert "\n\n\n" not in log


_EVAL = "r8_lr1e-5/capitalization/epoch"
_USERS_BLOCKS = (
    rf"\[{STAMP}\] STATUS_CHECK: Polling SLURM\nResult: 2 jobs found - \d PENDING, \d RUNNING, \d COMPLETED",
    (
        rf"\[{STAMP}\] STATE_CHANGE: {_EVAL}0\nPrevious: PENDING\nCurrent: RUNNING\nJob ID: \d+\n"
        rf"Action: Updated run state(\nAt: {STAMP})?"
    ),
    (
        rf"\[{STAMP}\] STATE_CHANGE: {_EVAL}0\nPrevious: RUNNING\nCurrent: COMPLETED\nCompleted: {STAMP}\n"
        r"Elapsed: \ds\nAction: Updated run state\nResult log: r8_lr1e-5/eval/capitalization_epoch0/logs/\nJob ID: \d+"
    ),
    (
        rf"\[{STAMP}\] COMPUTE_METRICS: {_EVAL}0\nJob ID: \d+\nGPU Time: 00:00:0\d / 00:05:00 \(\d%\)\n"
        r"Memory: (\d+\.\d\d MB|unknown) / 100\.00 MB\nCPU Efficiency: (\d+\.\d\d%|unknown)"
    ),
    (
        rf"\[{STAMP}\] COMPUTE_METRICS: {_EVAL}1\nJob ID: \d+\nGPU Time: 00:01:\d\d / 00:01:00 \(\*\*EXCEEDED\*\*\)\n"
        r"⚠️ Time limit exceeded — consider increasing eval time limit when re-scaffolding\n"
        r"Memory: .*\nCPU Efficiency: .*"
    ),
    (
        rf"\[{STAMP}\] ALL_COMPLETE: Monitoring finished\nSummary: 2 evaluations completed - 1 COMPLETED, 0 FAILED, "
        r"1 TIMEOUT\nTotal time: \d minutes?\n"
        rf"Outcome: 1 of 2 evals succeeded; 1 needs you: {_EVAL}1 reached the time limit"
    ),
)


def submit_one_that_is_requeued(exp: Exp) -> None:
    exp.script(
        "r1",
        "again_epoch0",
        'if [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then scontrol requeue $SLURM_JOB_ID; sleep 60; fi\n',
    )
    assert exp.submit().returncode == 0


def submit_one_that_is_requeued_without_a_sidecar(exp: Exp) -> None:
    exp.settings(mode="dependency")
    submit_one_that_is_requeued(exp)


@pytest.mark.survives("F18")
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("sidecar", marks=begins(submit_one_that_is_requeued)),
        pytest.param("dependency", marks=begins(submit_one_that_is_requeued_without_a_sidecar)),
    ],
)
def test_a_requeued_eval_has_two_attempts(exp: Exp, mode: str) -> None:
    exp.wait_complete(timeout=240)
    [ev] = exp.summary()["evals"]
    assert [attempt["state"] for attempt in ev["attempts"]] == ["REQUEUED", "COMPLETED"]
    assert exp.transitions("r1/again/epoch0") == [
        ("PENDING", "RUNNING"),
        ("RUNNING", "REQUEUED"),
        ("REQUEUED", "PENDING"),
        ("PENDING", "RUNNING"),
        ("RUNNING", "COMPLETED"),
    ]
