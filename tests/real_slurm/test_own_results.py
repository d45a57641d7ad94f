"""Tests that real inspect-ai evals in one directory, or with unusual log directories, have their own results."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from pathlib import Path

import pytest

from real_slurm.cluster import HEADER, Exp

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(importlib.util.find_spec("inspect_ai") is None, reason="inspect-ai is not installed"),
]

TASKS = Path(__file__).parents[2] / "scripts" / "demo_files" / "tasks.py"
INSPECT = Path(sys.executable).parent / "inspect"


def inspect(exp: Exp, *options: str, logs: str = "./logs", task: str = "arithmetic") -> str:
    words = [str(INSPECT), "eval", f"{TASKS}@{task}", "-T", f"adapter={exp.root / 'trained'}", "-T", "pace_s=0"]
    return shlex.join([*words, *options, "--max-samples", "1", "--log-dir", logs])


def scripts(exp: Exp) -> dict[str, str]:
    fails, unfinished = ("-T", "crash_at=4"), ("-T", "crash_at=4", "--no-fail-on-error")
    own_session = f"setsid -f bash -c {shlex.quote(inspect(exp, *fails, logs='hidden') + '; touch over')}"
    return {
        "good_epoch0": inspect(exp),
        "fails_epoch0": inspect(exp, *fails),
        "dies_epoch0": f"{inspect(exp, '--model', 'openai/none')} | tee dies.txt; ls logs",
        "both_epoch0": f"{inspect(exp, *unfinished)}\n{inspect(exp, task='capitalization')}",
        "exec_epoch0": f"bash -c {shlex.quote('sleep 2; exec ' + inspect(exp, *fails, logs='hidden'))}",
        "away_epoch0": f"{own_session}\nuntil [ -e over ]; do sleep 0.2; done\nsleep 1",
        "unseen_epoch0": f"srun -N2 -n2 {inspect(exp)} --display none >unseen.txt",
        "named_epoch0": "# inspect eval t.py --log-dir ./logs\ntrue",
    }


EXPECTED: dict[str, tuple[str, list[tuple[str, int]]]] = {
    "good": ("ok", [("success", 12)]),
    "fails": ("suspect", [("error", 3)]),
    "dies": ("suspect", []),
    "both": ("suspect", [("success", 11), ("success", 12)]),
    "exec": ("suspect", [("error", 3)]),
    "away": ("suspect", [("error", 3)]),
    "unseen": ("unverified", [("success", 12)]),
    "named": ("ok", []),
}


def test_each_eval_has_its_own_results_and_no_others(exp: Exp) -> None:
    (exp.root / "trained").mkdir()
    (exp.root / "trained" / "adapter.json").write_text(json.dumps({"accuracy": 1}))
    folder = exp.root / "r1" / "eval"
    home = f"export HOME={shlex.quote(str(exp.root))}\ncd {shlex.quote(str(folder))}\n"
    for name, body in scripts(exp).items():
        nodes = "#SBATCH -N2\n" if name.startswith("unseen") else ""
        exp.script("r1", name, home + body + "\n", header=HEADER.replace("mem=100", "mem=400") + nodes)
    done = exp.submit()
    assert (done.returncode, done.stderr) == (0, "")
    exp.wait_complete(timeout=300)
    evals = {name.split("/")[1]: ev for name, ev in exp.evals().items()}
    outcome = {
        name: (ev["verdict"], sorted((one["status"], one["samples_completed"]) for one in ev["results"]))
        for name, ev in evals.items()
    }
    assert outcome == EXPECTED, json.dumps(evals, indent=1)
    results = [one for ev in evals.values() for one in ev["results"]]
    assert {one["known_by"] for one in results} <= {"process", "output"}
    assert len({one["log"] for one in results}) == len(results)
    unknown = {name: ev["result_unknown"] for name, ev in evals.items() if ev["result_unknown"] is not None}
    assert unknown == {"unseen": "nobody was on all its nodes to see"}
