"""Tests refused, cancelled and dropped evals on a real Slurm, and `logs` of a running one."""

from __future__ import annotations

from pathlib import Path

import pytest

from real_slurm.cluster import HEADER, Exp, wait_for

pytestmark = pytest.mark.slurm

REFUSED, LONG, FAILS, ARRAY = "r1/refused/epoch0", "r1/long/epoch0", "r1/fails/epoch0", "r1/array/epoch0"


def a_study(exp: Exp) -> Path:
    """An eval of each kind; returns the script that Slurm refuses."""
    exp.script("r1", "long_epoch0", "echo begun; sleep 300\n")
    exp.script("r1", "fails_epoch0", "echo to stderr >&2; exit 3\n")
    exp.script("r1", "array_epoch0", "sleep 300\n", header=HEADER + "#SBATCH --array=0-1\n")
    return exp.script("r1", "refused_epoch0", "true\n", header=HEADER + "#SBATCH --partition=no_such\n")


def verdicts(exp: Exp) -> dict[str, str]:
    exp.evalmon("report", str(exp.root))
    return {name: ev["verdict"] for name, ev in exp.evals().items()}


def test_refused_cancelled_and_dropped_evals_are_shown_as_such(exp: Exp) -> None:
    script = a_study(exp)
    done = exp.submit()
    assert (done.returncode, "Invalid partition name specified" in done.stderr) == (1, True), done
    assert verdicts(exp)[REFUSED] == "refused"
    [alert] = exp.blocks("ALERT")
    assert f"{REFUSED} refused by Slurm\nReason: sbatch: error: " in alert
    wait_for(lambda: exp.evalmon("logs", str(exp.root), LONG).stdout == "begun\n", 60, exp.log)

    long_job, array_job = exp.job(LONG), exp.job(f"{ARRAY}[0]").partition("_")[0]
    for task in "01":
        exp.wait_state(f"{array_job}_{task}", "RUNNING")
    assert exp.evalmon("drop", str(exp.root), LONG).returncode == 2
    assert exp.evalmon("cancel", str(exp.root), LONG).returncode == 2
    done = exp.evalmon("cancel", str(exp.root), LONG, f"{ARRAY}[1]", "--yes")
    assert done.returncode == 0, done
    assert set(done.stdout.splitlines()) == {
        f"cancelled {LONG}  job {long_job}",
        f"cancelled {ARRAY}[1]  job {array_job}_1",
    }
    exp.wait_state(long_job, "CANCELLED")
    assert "nothing to cancel" in exp.evalmon("cancel", str(exp.root), LONG, "--yes").stdout
    assert exp.evalmon("cancel", str(exp.root), ARRAY, "--yes").stdout == f"cancelled {ARRAY}[0]  job {array_job}_0\n"

    # A refused eval does not delay the end.
    exp.wait_complete()
    assert "4 evaluations completed - 0 COMPLETED, 1 FAILED, 3 CANCELLED" in exp.blocks("ALL_COMPLETE")[0]
    done = exp.evalmon("logs", str(exp.root), FAILS)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (0, "to stderr\n", 1)

    assert exp.evalmon("drop", str(exp.root), LONG, ARRAY).returncode == 0
    assert verdicts(exp) == {
        LONG: "dropped",
        FAILS: "failed",
        f"{ARRAY}[0]": "dropped",
        f"{ARRAY}[1]": "dropped",
        REFUSED: "refused",
    }

    # Once the script is fixed, retry submits it; the dropped ones stay dropped.
    script.write_text(HEADER + "true\n")
    done = exp.evalmon("retry", str(exp.root), "--name", REFUSED)
    assert (done.returncode, f"submitted {REFUSED}" in done.stdout) == (0, True), done
    wait_for(lambda: len(exp.blocks("ALL_COMPLETE")) == 2, 60, exp.log)
    assert "2 evaluations completed - 1 COMPLETED, 1 FAILED" in exp.blocks("ALL_COMPLETE")[1]
    assert verdicts(exp)[REFUSED] == "ok"

    # Naming its script submits a dropped eval again, as the same eval.
    exp.script("r1", "long_epoch0", "true\n")
    done = exp.evalmon("submit", str(exp.root), "r1/eval/long_epoch0/cell.slurm")
    assert (done.returncode, f"submitted {LONG}" in done.stdout) == (0, True), done
    wait_for(lambda: len(exp.blocks("ALL_COMPLETE")) == 3, 60, exp.log)
    assert (verdicts(exp)[LONG], len(exp.evals()[LONG]["attempts"])) == ("ok", 2)
