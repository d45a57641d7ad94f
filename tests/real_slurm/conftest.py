"""One real Slurm for the whole run, and a fresh experiment for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from real_slurm.cluster import SLURM_DEV, Cluster, Exp, environ_of


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Started for this run and gone after it; EVALMON_TEST_SLURM_DIR names one that runs already."""
    given = os.environ.get("EVALMON_TEST_SLURM_DIR")
    if given:
        yield Cluster(Path(given), environ_of(Path(given)))
        return
    if os.geteuid() != 0 and shutil.which("sudo") is None:
        pytest.skip("the local Slurm needs root or sudo")
    directory = tmp_path_factory.mktemp("slurm") / "cluster"
    subprocess.run([SLURM_DEV, "up", "--dir", directory], check=True, timeout=900)
    try:
        yield Cluster(directory, environ_of(directory))
    finally:
        subprocess.run([SLURM_DEV, "down", "--dir", directory], check=True, timeout=120)


@pytest.fixture
def exp(cluster: Cluster, tmp_path: Path) -> Iterator[Exp]:
    """An empty experiment that polls fast; its jobs are cancelled afterwards."""
    found = Exp(tmp_path / "study", cluster)
    found.root.mkdir()
    found.settings()
    yield found
    found.cancel_all()
