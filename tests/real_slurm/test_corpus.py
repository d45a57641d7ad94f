"""Tests that any sbatch script ends with evalmon as without: the corpus is run both ways and compared."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from nvml_standin.world import World
from real_slurm import corpus_report
from real_slurm.cluster import Cluster
from real_slurm.corpus_runs import NAMES, SLOW, Pair, run_all

pytestmark = pytest.mark.slurm

SCRIPTS = [pytest.param(name, marks=[pytest.mark.full] if name in SLOW else []) for name in NAMES]
ROUNDS = [1, pytest.param(2, marks=pytest.mark.full)]

# As in a login shell with environment modules, and names that no shell allows.
ODD = {"BASH_FUNC_module%%": "() {  printf 'module %s\\n' \"$*\"\n}", "corpus.dot": "1", "corpus-dash": "a\nb"}


@pytest.fixture(scope="module")
def corpus(
    request: pytest.FixtureRequest, cluster: Cluster, standin: Path, tmp_path_factory: pytest.TempPathFactory
) -> Mapping[str, Pair]:
    """All scripts, submitted at once with and without evalmon; slow ones only with --all."""
    folder = tmp_path_factory.mktemp(f"corpus{request.param}")
    world = World(folder, standin)
    programs = world.install_nvidia_smi(folder / "bin").parent
    path = f"{programs}:{cluster.environ['PATH']}"
    names = [name for name in NAMES if request.config.getoption("--all") or name not in SLOW]
    return run_all(cluster, folder, names, env={**world.environment({}, PATH=path, CORPUS_CANARY="here"), **ODD})


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("corpus", ROUNDS, indirect=True)
def test_a_script_ends_with_evalmon_as_without(corpus: Mapping[str, Pair], name: str) -> None:
    pair = corpus[name]
    corpus_report.note(name, pair)
    assert pair.ours.jobs == pair.plain.jobs
    assert pair.ours.files == pair.plain.files
