"""Tests all monitoring under a random killer: scripts/soak for 45 seconds, and with --all for 80."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from as_root import needs_root
from real_slurm.cluster import ROOT, Cluster

pytestmark = pytest.mark.slurm

LAST_LINE = re.compile(r"soak: (\d+) kills, (\d+) evals, (\d+) lost, (\d+) invented, (\d+) duplicates, seed \d+")


@needs_root
@pytest.mark.survives("F2", "F7", "F12", "F15", "F18", "F19", "F26", "F27")
@pytest.mark.parametrize("seconds", [45, pytest.param(80, marks=pytest.mark.full)])
def test_exactly_what_happened_is_reported_under_a_random_killer(
    cluster: Cluster, tmp_path: Path, seconds: int
) -> None:
    words = ["--for", str(seconds), "--seed", "4", "--dir", tmp_path / "soak", "--slurm", cluster.directory]
    done = subprocess.run([ROOT / "scripts/soak", *words], check=False, capture_output=True, text=True, timeout=500)
    said = LAST_LINE.fullmatch((done.stdout.splitlines() or [""])[-1])
    assert said is not None, done.stdout + done.stderr
    kills, evals, *wrong = map(int, said.groups())
    assert (wrong, done.returncode) == ([0, 0, 0], 0), done.stdout + done.stderr
    assert kills >= 20
    assert evals >= 10
