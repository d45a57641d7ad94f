"""Every script says how it is used, at once and on a machine where nothing is installed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
NAMES = sorted(path.name for path in SCRIPTS.iterdir() if path.is_file() and os.access(path, os.X_OK))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing but the scripts: what they would install could not be."""
    root = tmp_path_factory.mktemp("checkout")
    shutil.copytree(SCRIPTS, root / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.parametrize("option", ["--help", "-h"])
@pytest.mark.parametrize("name", NAMES)
def test_every_script_says_how_it_is_used_and_installs_nothing(name: str, option: str, checkout: Path) -> None:
    done = subprocess.run(
        [checkout / "scripts" / name, option], cwd=checkout, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: scripts/{name}")
    assert [path.name for path in checkout.rglob("*") if path.name in {".venv", "__pycache__"}] == []


def test_a_verb_of_a_script_has_help_of_its_own(checkout: Path) -> None:
    done = subprocess.run(
        [checkout / "scripts/bench", "poll", "--help"], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout.startswith("usage: scripts/bench poll")
