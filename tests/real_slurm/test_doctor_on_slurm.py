"""Tests `evalmon doctor` on a real Slurm."""

from __future__ import annotations

import json

import pytest

from real_slurm.cluster import Exp


@pytest.mark.slurm
def test_a_real_cluster_has_no_problem(exp: Exp) -> None:
    exp.settings()
    done = exp.evalmon("doctor", str(exp.root), "--json")
    assert done.returncode == 0, done.stdout
    found = {row["check"]: row for row in json.loads(done.stdout)}
    levels = {check: row["level"] for check, row in found.items()}
    assert levels["controller"] == levels["accounting"] == levels["partitions"] == levels["version"] == "ok"
    assert found["accounting"]["line"] == "on (accounting_storage/slurmdbd)"
    assert found["version"]["line"].startswith("Slurm 2")
    assert "debug (default) 1-00:00:00" in found["partitions"]["line"]
