"""Tests planted causes and a planted bad node: each cause once, only that node suspected, costs as by sacct."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from real_slurm.cluster import Exp

pytestmark = pytest.mark.slurm

HEADER = "#!/bin/bash\n#SBATCH --time=5\n#SBATCH --mem=50\n#SBATCH --gres=gpu:1\n#SBATCH --cpus-per-task=2\n"
GOOD = [f"good{number}" for number in range(8)]
BROKEN = {
    "vision": ("missing-module", "ModuleNotFoundError: No module named 'torch'"),
    "long": ("cuda-out-of-memory", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate $RANDOM.50 MiB."),
    "words": ("missing-file", "FileNotFoundError: [Errno 2] No such file or directory: '/data/$PWD/words.json'"),
    "odd": ("python-error", "ValueError: sample $RANDOM has no target"),
}
OF_NODE = ("gpu-busy", "RuntimeError: CUDA error: CUDA-capable device(s) is/are busy or unavailable")
PRICE = 36.0

RAISES = """raises() {
  printf 'Traceback (most recent call last):\\n  File "/exp/ev.py", line %s, in main\\n    run()\\n%s\\n' "$RANDOM" "$1"
  exit 1
}
"""
AGAIN = 'if [ "${SLURM_RESTART_COUNT:-0}" = 0 ]; then sleep 2; scontrol requeue "$SLURM_JOB_ID"; sleep 60; fi\n'


def plant(exp: Exp, bad: str, *, runs: int, epochs: int) -> list[str]:
    """The names of the evals. On the bad node a variable is set, as by a broken profile, and all evals fail."""
    names = []
    for run in range(runs):
        for epoch in range(epochs):
            for task in [*GOOD, *BROKEN]:
                on_node = f'[ "$SLURMD_NODENAME" = {bad} ] && export BROKEN_DRIVER=1\n'
                fails = f'sleep 1\n[ -z "$BROKEN_DRIVER" ] || raises "{OF_NODE[1]}"\n'
                own = f'raises "{BROKEN[task][1]}"\n' if task in BROKEN else "echo done\n"
                again = AGAIN if (run, epoch, task) == (0, 0, GOOD[0]) else ""
                # Each planted cause occurs at least once, wherever Slurm runs the others.
                place = f"#SBATCH --exclude={bad}\n" if task in BROKEN and epoch == 0 else ""
                body = RAISES + on_node + again + fails + own
                exp.script(f"r{run}", f"{task}_epoch{epoch}", body, header=HEADER + place)
                names.append(f"r{run}/{task}/epoch{epoch}")
    return names


def nodes(exp: Exp) -> list[str]:
    return sorted(exp.cluster.run("sinfo", "-h", "-N", "-p", "debug", "-o", "%N").stdout.split())


def of_sacct(exp: Exp, job_id: str) -> tuple[float, float, int, bool]:
    """GPU-hours, CPU-hours and the number of attempts, by hand, and whether sacct has each one's elapsed time.

    Once 22.05 gave 4 s for a requeued attempt at first, and 0 s later.
    """
    rows = exp.cluster.sacct(job_id, "ElapsedRaw", "AllocCPUS", "AllocTRES")
    gpus = [int((re.findall(r"gres/gpu=(\d+)", tres) or [0])[0]) for *_, tres in rows]
    gpu_hours = sum(int(elapsed) * gpu / 3600 for (elapsed, *_), gpu in zip(rows, gpus, strict=True))
    is_whole = all(int(elapsed) for elapsed, *_ in rows)
    return gpu_hours, sum(int(elapsed) * int(cpus) / 3600 for elapsed, cpus, _ in rows), len(rows), is_whole


@pytest.mark.parametrize(
    ("runs", "epochs"), [pytest.param(2, 2, id="48"), pytest.param(3, 2, id="72", marks=pytest.mark.full)]
)
def test_planted_causes_and_a_planted_bad_node_are_found(exp: Exp, runs: int, epochs: int) -> None:
    *_, bad = nodes(exp)
    exp.settings(gpu_hour_price={"gpu": PRICE}, currency="CHF")
    names = plant(exp, bad, runs=runs, epochs=epochs)
    done = exp.submit()
    assert done.returncode == 0, done.stderr
    exp.wait_complete(timeout=540)
    summary = exp.summary()
    shown = json.dumps({key: summary[key] for key in ("cost", "causes", "nodes")}, indent=1)
    print(shown)
    check_causes(summary, bad=bad)
    assert [bad] == [node["node"] for node in summary["nodes"] if node["suspicious"]], shown
    assert len(names) <= sum(node["ran"] for node in summary["nodes"]) <= len(names) + 1
    check_costs(exp, summary, names)


def check_causes(summary: dict[str, Any], *, bad: str) -> None:
    """Check that each planted cause is listed once, with exactly the evals that failed by it."""
    expected: dict[str, set[str]] = {}
    for ev in summary["evals"]:
        task = ev["name"].split("/")[1]
        cause = OF_NODE[0] if ev["nodes"] == [bad] else BROKEN.get(task, (None,))[0]
        if cause is not None:
            expected.setdefault(cause, set()).add(ev["name"])
    causes = summary["causes"]
    assert Counter(expected) == Counter({cause["cause"]: set(cause["evals"]) for cause in causes})
    assert len(expected) == len(causes) == 1 + len(BROKEN)
    assert all(cause["evidence"] and cause["advice"] for cause in causes)
    hours = [cause["gpu_hours"] for cause in causes]
    assert hours == sorted(hours, reverse=True)
    # The requeued attempt has no result either, and no cause.
    assert 0.8 <= sum(hours) / summary["cost"]["gpu_hours_of_failures"] <= 1.000_1


def check_costs(exp: Exp, summary: dict[str, Any], names: list[str]) -> None:
    """Check the costs of ten evals, one of them requeued, and their sums with sacct."""
    evals = {ev["name"]: ev for ev in summary["evals"]}
    attempts = []
    for name in names[:10]:
        cost = evals[name]["cost"]
        gpu_hours, cpu_hours, rows, is_whole = of_sacct(exp, evals[name]["job_id"])
        print(f"{name}: by sacct {gpu_hours:.6f} GPU-hours, {cpu_hours:.6f} CPU-hours in {rows} attempts; {cost}")
        attempts.append(rows)
        if rows > 1 and not is_whole:
            assert cost["gpu_hours"] >= gpu_hours - 2e-6
            continue
        assert cost["gpu_hours"] == pytest.approx(gpu_hours, abs=2e-6)
        assert cost["cpu_hours"] == pytest.approx(cpu_hours, abs=2e-6)
        assert cost["money"] == pytest.approx(gpu_hours * PRICE, abs=2e-5)
    assert (max(attempts), min(attempts)) == (2, 1)
    whole = summary["cost"]
    for figure in ("gpu_hours", "cpu_hours", "money"):
        assert whole[figure] == pytest.approx(sum(ev["cost"][figure] for ev in evals.values()), abs=1e-4)
    assert ("CHF", {}, []) == (whole["currency"], whole["evals_left_out"], whole["unpriced"])
