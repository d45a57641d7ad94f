"""Tests `evalmon watch` on a real Slurm with jobs submitted by sbatch alone."""

from __future__ import annotations

import sys

import pytest

from real_slurm.ahead import begins
from real_slurm.cluster import HEADER, Exp, wait_for

pytestmark = pytest.mark.slurm

THEN = [("PENDING", "RUNNING")]
# nvidia-smi's file, as the script's own sampler writes it.
HEAD = "timestamp, utilization.gpu [%], utilization.memory [%], memory.used [MiB], memory.total [MiB]"
CSV = f"""cat >gpu_metrics.csv <<END
{HEAD}, power.draw [W], temperature.gpu
$(date '+%Y/%m/%d %H:%M:%S').000, 40 %, 12 %, 1024 MiB, 4096 MiB, 100.00 W, 40
END
"""


def sbatch(exp: Exp, folder: str, body: str, *options: str, header: str = HEADER) -> str:
    """Submit a script as a user does without evalmon; returns the job's id."""
    path = exp.script("r1", folder, body, header=header)
    done = exp.cluster.run("sbatch", "--parsable", *options, path.name, cwd=str(path.parent))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def watch_by_id_array_and_pattern(exp: Exp) -> None:
    runs = f"until [ -e {exp.root}/go ]; do sleep 0.2; done\n"
    one = sbatch(exp, "one_epoch0", f"{CSV}{runs}exit 3\n")
    held = sbatch(exp, "held_epoch0", "true\n", "--hold")
    array = sbatch(exp, "array", f"{runs}exit $SLURM_ARRAY_TASK_ID\n", "--array=0-1")
    sbatch(exp, "other", runs, "--job-name=match_me")
    hook = f'eval "$({sys.executable} -m evalmon_agent hook --name by/hook)"\n'
    hooked = sbatch(exp, "hooked", hook + runs)
    exp.wait_state(one, "RUNNING")
    wait_for((exp.ours / "jobs" / f"{hooked}.json").exists, 20)
    done = exp.evalmon("watch", str(exp.root), one, f"mine={held}", array, hooked, "--match", "match_*")
    assert (done.returncode, done.stderr) == (0, "")
    again = exp.evalmon("watch", str(exp.root), one)
    assert again.stdout.startswith(f"skipped r1/one/epoch0  job {one}: already registered")
    exp.cluster.run("scontrol", "release", held)
    (exp.root / "go").touch()


@begins(watch_by_id_array_and_pattern)
def test_running_and_pending_jobs_are_watched_to_their_end_by_id_array_and_pattern(exp: Exp) -> None:
    exp.wait_complete()
    states = {"r1/one/epoch0": "FAILED", "mine": "COMPLETED", "r1/array[0]": "COMPLETED", "r1/array[1]": "FAILED"}
    states |= {"r1/other": "COMPLETED", "by/hook": "COMPLETED"}
    evals = exp.evals()
    assert {name: ev["state"] for name, ev in evals.items()} == states
    for name, state in states.items():
        assert (name, exp.transitions(name)) == (name, [*THEN, ("RUNNING", state)])
    assert {name: ev["witnesses"]["self"] for name, ev in evals.items() if ev["witnesses"]["self"]} == {
        "by/hook": "exit 0"
    }
    assert (evals["r1/one/epoch0"]["exit_code"], evals["r1/one/epoch0"]["gpu"]["utilization_max_pct"]) == (3, 40)
    one = evals["r1/one/epoch0"]
    assert one["log"].endswith(f"/r1/eval/one_epoch0/slurm-{one['job_id']}.out")
    assert "ALERT" not in exp.log()


def test_ended_jobs_are_summarised_and_other_users_are_not(exp: Exp, other: str) -> None:
    over = sbatch(exp, "over_epoch0", "exit 4\n")
    words = ["--parsable", "--output=/dev/null", "--wrap=true"]
    others = exp.cluster.as_other("sbatch", *words, user=other).stdout.strip()
    ended = ["sacct", "-n", "-X", "-P", "-j", others, "-o", "State"]
    wait_for(lambda: exp.cluster.sacct(over, "State", "JobName") == [["FAILED", "cell.slurm"]], 30)
    wait_for(lambda: exp.cluster.as_other(*ended, user=other).stdout == "COMPLETED\n", 30)
    done = exp.evalmon("watch", str(exp.root), over, others, "1")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"evalmon: {others}: Slurm knows no such job of yours",
        "evalmon: 1: Slurm knows no such job of yours",
    ]
    assert exp.summary()["complete"]
    [ev] = exp.summary()["evals"]
    assert (ev["name"], ev["state"], ev["exit_code"], ev["verdict"]) == ("r1/over/epoch0", "FAILED", 4, "failed")


def watch_jobs_without_a_script(exp: Exp) -> None:
    def submit(*options: str, script: str | None = None) -> str:
        words = ["--time=1", "--mem=50", *options]
        done = exp.cluster.run("sbatch", "--parsable", *words, cwd=str(exp.root), input=script)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    fails = "sleep 2; python3 -c 'import vlllm'"
    (exp.root / "e").mkdir()
    wrapped = submit("--wrap", fails)
    typed = submit("--job-name=typed", "--output=o %x-%j.txt", script=f"#!/bin/sh\n{fails}\n")
    array = submit("--array=0-1%1", "--output=a-%A-%3a.txt", "--error=e/%A-%a", "--wrap", fails)
    odd = submit("--array=5-6%1", "--output=%x-%j.odd", "--wrap", fails)
    done = exp.evalmon("watch", str(exp.root), f"w={wrapped}", f"t={typed}", f"a={array}", f"o={odd}")
    assert (done.returncode, done.stderr) == (0, "")


@begins(watch_jobs_without_a_script)
def test_jobs_without_a_script_keep_their_outputs(exp: Exp) -> None:
    """`--wrap` and stdin, alone and in arrays; while Slurm has the job, and afterwards."""
    exp.wait_complete()
    evals = exp.evals()
    wrapped, typed = evals["w"]["job_id"], evals["t"]["job_id"]
    array = evals["a[0]"]["job_id"].partition("_")[0]
    expected = {"w": f"slurm-{wrapped}.out", "t": f"o typed-{typed}.txt"}
    expected |= {f"a[{task}]": f"a-{array}-00{task}.txt" for task in (0, 1)}
    logs = {name: ev["log"] for name, ev in evals.items()}
    for name, log in expected.items():
        assert logs[name] == str(exp.root / log)
        assert evals[name]["diagnosis"]["cause"] == "missing-module"
    # Only Slurm knows each task's number in `%j`: it is asked when the task ends.
    assert sorted(filter(None, (logs["o[5]"], logs["o[6]"]))) == sorted(map(str, exp.root.glob("wrap-*.odd")))
