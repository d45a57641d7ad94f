"""Tests real inspect-ai evals on the real Slurm: results, progress, and why each failed."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from real_slurm.ahead import begins
from real_slurm.cluster import HEADER, Exp, wait_for

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(importlib.util.find_spec("inspect_ai") is None, reason="inspect-ai is not installed"),
]

TASKS = Path(__file__).parents[2] / "scripts" / "demo_files" / "tasks.py"
INSPECT = Path(sys.executable).parent / "inspect"
TWO_CORES_AT_ONCE = HEADER.replace("mem=100", "mem=400")
ONE_MINUTE = TWO_CORES_AT_ONCE.replace("time=5", "time=1")


def inspect(exp: Exp, *options: str, adapter: str = "trained") -> str:
    words = [str(INSPECT), "eval", f"{TASKS}@arithmetic", "-T", f"adapter={exp.root / adapter}", *options]
    # Python 3.11's inspect reads the user's settings and caches from the home directory.
    return f"export HOME={shlex.quote(str(exp.root))}\n{shlex.join(words)} --max-samples 1 --log-dir ./logs\n"


def all_kinds(exp: Exp) -> None:
    """One eval for each way in which an eval ends."""
    (exp.root / "trained").mkdir()
    (exp.root / "trained" / "adapter.json").write_text(json.dumps({"accuracy": 1}))
    # Slurm may check for exceeded limits up to half a minute late.
    slow = ("-T", "pace_s=15", "--log-buffer", "1")
    scripts = {
        "timeout": (ONE_MINUTE, inspect(exp, *slow)),
        "cancelled": (TWO_CORES_AT_ONCE, inspect(exp, *slow)),
        "success": (TWO_CORES_AT_ONCE, inspect(exp, "-T", "pace_s=0")),
        "error": (TWO_CORES_AT_ONCE, inspect(exp, "-T", "pace_s=0", "-T", "crash_at=4")),
        "untrained": (TWO_CORES_AT_ONCE, inspect(exp, adapter="epoch_9")),
        "silent": (HEADER, "echo would have run: inspect eval nothing\n"),
        "odd": (HEADER, "echo one; echo two >&2; exit 3\n"),
    }
    for name, (header, body) in scripts.items():
        exp.script("r1", f"{name}_epoch0", body, header=header)


def status(exp: Exp) -> dict[str, dict[str, Any]]:
    said = exp.evalmon("status", str(exp.root), "--json").stdout
    return {ev["name"].split("/")[1]: ev for ev in json.loads(said)["evals"]}


def in_progress(exp: Exp, *names: str) -> bool:
    """Whether status shows for each of them that some, but not all, samples are done."""
    evals = status(exp)
    return all(
        evals[name]["state"] == "RUNNING"
        and (evals[name]["result"] or {}).get("samples_total") == 12
        and 0 < evals[name]["result"]["samples_completed"] < 12
        for name in names
    )


EXPECTED = {
    "timeout": ("TIMEOUT", "failed", "started", "time-limit"),
    "cancelled": ("CANCELLED", "failed", "started", "cancelled"),
    "success": ("COMPLETED", "ok", "success", None),
    "error": ("COMPLETED", "suspect", "error", "cuda-error"),
    "untrained": ("FAILED", "failed", None, "model-not-found"),
    "silent": ("COMPLETED", "ok", None, None),
    "odd": ("FAILED", "failed", None, "unknown"),
}


def submit_and_cancel_one(exp: Exp) -> None:
    all_kinds(exp)
    done = exp.submit()
    assert (done.returncode, done.stderr) == (0, "")
    wait_for(lambda: in_progress(exp, "timeout", "cancelled"), 60, lambda: json.dumps(status(exp), indent=1))
    table = exp.evalmon("status", str(exp.root)).stdout
    assert re.search(r"^ ?r1/timeout/epoch0 .* \d+/12 +\d+$", table, re.MULTILINE), table
    exp.cluster.run("scancel", exp.job("r1/cancelled/epoch0"))


@pytest.mark.survives("F27")
@begins(submit_and_cancel_one, group="minute")
def test_each_evals_progress_result_and_cause_are_shown(exp: Exp) -> None:
    exp.wait_complete(timeout=180)
    evals = {name.split("/")[1]: ev for name, ev in exp.evals().items()}
    outcome = {
        name: (
            ev["state"],
            ev["verdict"],
            ev["result"] and ev["result"]["status"],
            ev["diagnosis"] and ev["diagnosis"]["cause"],
        )
        for name, ev in evals.items()
    }
    assert outcome == EXPECTED, json.dumps(evals, indent=1)
    check_results(evals)
    check_told_once(exp)


def check_results(evals: dict[str, dict[str, Any]]) -> None:
    """Check samples, scores, and the line that shows the cause."""
    samples = {name: ev["result"] and ev["result"]["samples_completed"] for name, ev in evals.items()}
    assert samples["success"] == 12
    assert evals["success"]["result"]["scores"]["match/accuracy"] == 1.0
    assert samples["error"] == 3
    assert 0 < samples["timeout"] < 12
    assert 0 < samples["cancelled"] < 12
    why = {name: ev["diagnosis"] or {} for name, ev in evals.items()}
    assert "DUE TO TIME LIMIT" in why["timeout"]["evidence"]
    assert re.search(r"\d+ of 12 samples took 1m .*; at this pace all take", why["timeout"]["advice"])
    assert why["cancelled"]["evidence"].startswith("Slurm says CANCELLED by ")
    assert "illegal memory access" in why["error"]["evidence"]
    assert why["untrained"]["evidence"].startswith("FileNotFoundError: [Errno 2] No such file or directory: ")
    assert why["odd"]["evidence"] == "one\ntwo"


def check_told_once(exp: Exp) -> None:
    """Check that each eval has its EVAL_RESULT and DIAGNOSIS once, and that summary.md says the same."""
    told = [re.match(r"\[[^]]+\] DIAGNOSIS: r1/(\w+)/epoch0", block) for block in exp.blocks("DIAGNOSIS")]
    failed = sorted(name for name, (*_, cause) in EXPECTED.items() if cause)
    assert sorted(match[1] for match in told if match) == failed
    results = [re.match(r"\[[^]]+\] EVAL_RESULT: r1/(\w+)/", block) for block in exp.blocks("EVAL_RESULT")]
    assert sorted(match[1] for match in results if match) == sorted(set(EXPECTED) - {"odd", "silent"})
    summary = (exp.ours / "summary.md").read_text()
    assert re.search(r"reached the time limit\*\*.*: .*DUE TO TIME LIMIT", summary)
    assert re.search(r"failed for an unknown reason\*\*.*: one ⏎ two", summary)
