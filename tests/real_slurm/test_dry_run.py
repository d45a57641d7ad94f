"""Tests `evalmon submit --dry-run` on a real Slurm: its refusals in its own words, and the totals."""

from __future__ import annotations

import json

import pytest

from real_slurm.cluster import HEADER, Exp

pytestmark = pytest.mark.slurm

BAD = {
    "gres": ("--gres=gpu:99", "allocation failure: Requested node configuration is not available"),
    "account": ("--account=nobody", "allocation failure: Invalid account or account/partition combination specified"),
    "qos": ("--qos=none", "allocation failure: Invalid qos specification"),
    "option": ("--no-such-option", "unrecognized option '--no-such-option'"),
}


def test_refused_scripts_are_reported_and_the_others_counted(exp: Exp) -> None:
    for name, (option, _) in BAD.items():
        exp.script("r1", f"{name}_epoch0", "true\n", header=f"{HEADER}#SBATCH {option}\n")
    gpu = "#SBATCH --gres=gpu:1\n"
    exp.script("r1", "array", "true\n", header=f"{HEADER}{gpu}#SBATCH --array=0-3\n")
    exp.script("r1", "default_epoch0", "true\n", header=f"#!/bin/bash\n#SBATCH --mem=100 -p short\n{gpu}")
    too_long = "#!/bin/bash\n#SBATCH --mem=100 -p short --time=60\n"
    exp.script("r1", "too_long_epoch0", "true\n", header=too_long)
    done = exp.submit("--dry-run", "--json")
    report = json.loads(done.stdout)
    words = {one["name"]: one["error"] for one in report["refused"]}
    assert done.returncode == 1
    assert set(words) == {f"r1/{name}/epoch0" for name in BAD}
    assert [name for name, (_, expected) in BAD.items() if expected not in words[f"r1/{name}/epoch0"]] == []
    assert {one["name"] for one in report["submitted"]} == {"r1/array", "r1/default/epoch0", "r1/too_long/epoch0"}
    assert report["totals"] == {
        "evals": 6,
        "monitor_jobs": 2,
        "gpu_hours": pytest.approx(4 * 5 / 60 + 10 / 60),
        "evals_without_gpu_hours": 0,
    }
    [warning] = report["warnings"]
    assert warning.endswith("asks for 01:00:00, and short gives 00:10:00: it would wait for ever")
    assert not exp.ours.exists()
    queued = exp.cluster.run("squeue", "-a", "-h", "--me", "-o", "%Z").stdout
    assert str(exp.root) not in queued
