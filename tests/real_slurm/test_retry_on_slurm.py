"""Tests `evalmon retry` on a real Slurm: more time, more memory, and finished samples that are not run again."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from real_slurm.ahead import begins
from real_slurm.cluster import HEADER, Exp, most_at_once, wait_for

pytestmark = pytest.mark.slurm

INSPECT = Path(sys.executable).parent / "inspect"
TASKS = """
import os

import anyio
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import match
from inspect_ai.solver import solver


@solver
def counted():
    async def solve(state, generate):
        with open("ran.txt", "a") as file:
            file.write(f"{state.sample_id}\\n")
        # The first run gets no further than this: its node is taken away.
        if state.sample_id == 4 and not os.path.exists("again"):
            await anyio.sleep(600)
        state.output.completion = "yes"
        return state

    return solve


@task
def four():
    samples = [Sample(id=number, input=f"say yes, {number}", target="yes") for number in range(1, 5)]
    return Task(dataset=samples, solver=counted(), scorer=match())
"""
RESUMES = f"""
if [ -n "${{EVALMON_RETRY_LOG:-}}" ]; then
  {INSPECT} eval-retry "$EVALMON_RETRY_LOG" --log-dir ./logs --display plain
else
  {INSPECT} eval tasks.py@four --model mockllm/model --max-samples 1 --log-buffer 1 --log-dir ./logs --display plain
fi
"""


def a_broken_study(exp: Exp) -> Path:
    """One eval of each kind; returns the directory of the one that continues from its log."""
    short = HEADER.replace("--time=5", "--time=1")
    first_time = "[ -e again ] || { touch again; "
    exp.script("r1", "slow_epoch0", first_time + "sleep 300; }\nsleep 1\n", header=short)
    exp.script("r1", "broken_epoch0", first_time + "exit 3; }\n")
    exp.script("r1", "fine_epoch0", "true\n")
    task = "again.$SLURM_ARRAY_TASK_ID"
    fails_once = f'[ "$SLURM_ARRAY_TASK_ID" = 0 ] || [ -e {task} ] || {{ touch {task}; exit 1; }}\n'
    exp.script("r1", "array_epoch0", fails_once, header=HEADER + "#SBATCH --array=0-2%2\n")
    script = exp.script("r1", "resumed_epoch0", RESUMES, header=HEADER.replace("--mem=100", "--mem=1500"))
    (script.parent / "tasks.py").write_text(TASKS)
    return script.parent


def submit_a_broken_study_and_kill_one(exp: Exp) -> None:
    """One minute is Slurm's smallest limit; everything else happens meanwhile."""
    resumed = a_broken_study(exp)
    exp.settings(max_submit=4)
    assert exp.submit().returncode == 0
    wait_for(lambda: (resumed / "ran.txt").read_text().split() == ["1", "2", "3", "4"], 60, exp.outputs)
    wait_for(lambda: exp.job("r1/resumed/epoch0"), 20, exp.log)
    exp.cluster.run("scancel", "--signal=KILL", "--full", exp.job("r1/resumed/epoch0"))


@begins(submit_a_broken_study_and_kill_one, group="minute")
def test_unsuccessful_evals_become_ok_on_the_second_run(exp: Exp) -> None:
    resumed = exp.root / "r1/eval/resumed_epoch0"
    ran = resumed / "ran.txt"
    exp.wait_complete(timeout=150)
    before = exp.evals()
    assert Counter(exp.summary()["verdicts"]) == Counter({"ok": 2, "failed": 5})
    of_resumed = before["r1/resumed/epoch0"]
    killed = of_resumed["result"]
    assert (killed["status"], killed["samples_completed"]) == ("started", 3)
    # Of seven evals at most four were queued at once; one that ends in its first second counts as none.
    assert most_at_once(exp, list(before)) <= 4

    exp.settings()
    (resumed / "again").touch()
    done = exp.evalmon("retry", str(exp.root), "--dry-run")
    assert (done.returncode, done.stdout.count("would submit")) == (0, 4)
    done = exp.evalmon("retry", str(exp.root), "--json", "--scale-time", "2.5")
    assert (done.returncode, done.stderr) == (0, "")
    told = {one["name"]: one["why"] for one in json.loads(done.stdout)["submitted"]}
    assert told == {
        "r1/array/epoch0": "--array=1-2%2; FAILED: cause unknown, attempt 2 of 3",
        "r1/broken/epoch0": "FAILED: cause unknown, attempt 2 of 3",
        "r1/resumed/epoch0": f"{of_resumed['state']}: {of_resumed['diagnosis']['cause']}, attempt 2 of 3, "
        f"goes on from {killed['log']}",
        "r1/slow/epoch0": "TIMEOUT: time-limit, attempt 2 of 3, time 00:01:00 -> 00:03:00 (rounded up to minutes)",
    }
    wait_for(lambda: len(exp.blocks("ALL_COMPLETE")) == 2, 60, lambda: exp.log() + exp.outputs())
    wait_for(lambda: exp.summary()["verdicts"]["ok"] == 7, 20, exp.summary)
    check_history(exp, before)
    # The finished samples were not run again.
    assert ran.read_text().split() == ["1", "2", "3", "4", "4"]
    result = exp.evals()["r1/resumed/epoch0"]["result"]
    assert (result["status"], result["samples_completed"]) == ("success", 4)
    again = exp.evalmon("retry", str(exp.root), "--json")
    assert (again.returncode, json.loads(again.stdout)["submitted"]) == (0, [])


def check_history(exp: Exp, before: dict[str, dict[str, Any]]) -> None:
    """Check both jobs of each eval in the summary and in the log."""
    evals = exp.evals()
    slow = evals["r1/slow/epoch0"]
    assert [(a["state"], a["job_id"] == before["r1/slow/epoch0"]["job_id"]) for a in slow["attempts"]] == [
        ("TIMEOUT", True),
        ("COMPLETED", False),
    ]
    assert slow["time_limit_s"] == 180
    assert [a["state"] for a in evals["r1/broken/epoch0"]["attempts"]] == ["FAILED", "COMPLETED"]
    assert [len(evals[f"r1/array/epoch0[{task}]"]["attempts"]) for task in range(3)] == [1, 2, 2]
    assert evals["r1/fine/epoch0"]["job_id"] == before["r1/fine/epoch0"]["job_id"]
    once = [("PENDING", "RUNNING")]
    assert exp.transitions("r1/broken/epoch0") == [*once, ("RUNNING", "FAILED"), *once, ("RUNNING", "COMPLETED")]


def submit_one_that_misses_a_module(exp: Exp) -> None:
    import_it = f"{sys.executable} -c 'import no_such_module_of_ours'\n"
    exp.script("r1", "broken_epoch0", f"[ -e again ] || {{ touch again; {import_it.strip()}; exit 1; }}\nhostname -s\n")
    assert exp.submit().returncode == 0


@begins(submit_one_that_misses_a_module)
def test_an_eval_certain_to_fail_again_is_forced_onto_another_node(exp: Exp) -> None:
    """The second job records where it ran; the script's own --exclude applies as well as the command's."""
    exp.wait_complete()
    ev = exp.evals()["r1/broken/epoch0"]
    assert (ev["verdict"], ev["diagnosis"]["cause"]) == ("failed", "missing-module")
    [node] = ev["nodes"]
    done = exp.evalmon("retry", str(exp.root))
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "nothing to run again")
    assert "missing-module returns until somebody fixes it; once it is fixed, add --cause missing-module" in done.stdout
    words = ["retry", str(exp.root), "--cause", "missing-module", "--force", "--exclude-nodes"]
    refused = exp.evalmon(*words, "no-such-node", "--dry-run")
    assert (refused.returncode, "Invalid node name" in refused.stderr) == (1, True)
    why = f"FAILED: missing-module, attempt 2 of 3, excluding {node}"
    assert why in exp.evalmon(*words, node, "--dry-run").stdout
    done = exp.evalmon(*words, node)
    assert (done.returncode, why in done.stdout) == (0, True)
    wait_for(lambda: len(exp.blocks("ALL_COMPLETE")) == 2, 60, lambda: exp.log() + exp.outputs())
    wait_for(lambda: exp.summary()["verdicts"]["ok"] == 1, 20, exp.summary)
    first, second = exp.evals()["r1/broken/epoch0"]["attempts"]
    assert (first["node_list"], first["verdict"], second["verdict"]) == (node, "failed", "ok")
    assert second["node_list"] != node


@pytest.mark.full
def test_an_eval_that_ran_out_of_memory_gets_more(exp: Exp) -> None:
    eats = f"{sys.executable} -c 'a = bytearray(150 * 1024 * 1024); a[::4096] = b\"x\" * len(a[::4096])'\n"
    exp.script("r1", "large_epoch0", eats)
    assert exp.submit().returncode == 0
    exp.wait_complete()
    [ev] = exp.evals().values()
    if ev["state"] != "OUT_OF_MEMORY":
        pytest.skip("memory limits need cgroup v1 controllers")
    done = exp.evalmon("retry", str(exp.root), "--scale-mem", "3")
    assert "OUT_OF_MEMORY: host-out-of-memory, attempt 2 of 3, mem 100M -> 300M" in done.stdout
    wait_for(lambda: exp.summary()["verdicts"]["ok"] == 1, 60, exp.log)
    [ev] = exp.evals().values()
    assert ev["memory_requested_bytes"] == 300 * 1024**2
