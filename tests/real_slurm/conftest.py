"""Provides one real Slurm for the whole run, and an experiment for each test."""

from __future__ import annotations

import getpass
import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import as_root
from real_slurm import corpus_report
from real_slurm.ahead import Ahead
from real_slurm.cluster import SLURM_DEV, Cluster, Exp, environ_of


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Started for this run and gone after it; EVALMON_TEST_SLURM_DIR names one that runs already.

    EVALMON_TEST_SLURM_RELEASE: another Debian release's Slurm, as `slurm-dev up --release` takes it.
    """
    given = os.environ.get("EVALMON_TEST_SLURM_DIR")
    if given:
        found = Cluster(Path(given), environ_of(Path(given)))
        if as_root.has_root:
            found.dev("user", getpass.getuser())
        yield found
        return
    if not as_root.has_root:
        pytest.skip("the local Slurm needs root, or sudo without a password")
    # pytest's own folders are closed to the user munge, who needs to get in.
    parent = Path(tempfile.mkdtemp(prefix="evalmon-test-"))
    parent.chmod(0o755)
    directory = parent / "slurm"
    release = os.environ.get("EVALMON_TEST_SLURM_RELEASE")
    words = ["--release", release] if release else []
    subprocess.run([SLURM_DEV, "up", "--dir", directory, *words], check=True, timeout=900)
    try:
        yield Cluster(directory, environ_of(directory))
    finally:
        subprocess.run([SLURM_DEV, "down", "--dir", directory], check=True, timeout=120)
        parent.rmdir()


@pytest.fixture(scope="session")
def ahead(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ahead]:
    """The experiments that were begun for tests still to come."""
    found = Ahead(cluster, tmp_path_factory)
    yield found
    found.close()


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Of a test that is marked `begins`, the folder in which its experiment is."""
    if request.node.get_closest_marker("begins") is None:
        return tmp_path
    ahead: Ahead = request.getfixturevalue("ahead")
    ahead.begin_group_of(request.node, request.session.items)
    return ahead.folders[request.node.nodeid]


@pytest.fixture
def exp(request: pytest.FixtureRequest, cluster: Cluster, ahead: Ahead, tmp_path: Path) -> Iterator[Exp]:
    """An empty experiment that polls fast, or as the function in the mark `begins` left it.

    Its jobs are cancelled afterwards.
    """
    ahead.begin_group_of(request.node, request.session.items)
    found = Exp(tmp_path / "study", cluster)
    try:
        if request.node.get_closest_marker("begins") is None:
            found.prepare()
        else:
            ahead.wait_begun(request.node)
        yield found
    finally:
        found.cancel_all()
        cluster.mend()


@pytest.fixture
def other(cluster: Cluster) -> str:
    """Another user of the cluster, in one group with this user."""
    name = "evalmon-other"
    try:
        pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"there is no user {name}; scripts/test makes one where root calls it")
    if not as_root.has_root:
        pytest.skip("needs root, or sudo without a password")
    cluster.dev("user", name)
    return name


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    corpus_report.show(terminalreporter)
