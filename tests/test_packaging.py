"""Tests that the wheel and the sdist contain what they need."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = sorted(path.name for path in (ROOT / "sbatch_templates").iterdir())


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return out


def test_the_wheel_carries_the_templates_the_schemas_and_the_type_marker(dist: Path) -> None:
    [wheel] = dist.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if "sbatch_templates/" in name] == [
        f"evalmon_agent/sbatch_templates/{name}" for name in TEMPLATES
    ]
    schemas = {f"evalmon_agent/schemas/{kind}.schema.json" for kind in ("summary", "state", "registry", "job")}
    assert schemas <= set(names)
    assert {"py.typed", "report_page/page.html.jinja", "report_page/page.css"} <= {
        name.removeprefix("evalmon_agent/") for name in names
    }


def test_the_sdist_carries_templates_tests_and_scripts(dist: Path) -> None:
    [sdist] = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"sbatch_templates/{name}" for name in TEMPLATES} <= names
    assert {"README.md", "LICENSE", "scripts/slurm-dev", "tests/test_packaging.py"} <= names


def test_the_installed_wheel_finds_its_templates(dist: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean/bin/python"
    [wheel] = dist.glob("*.whl")
    subprocess.run([python, "-m", "pip", "install", "-q", wheel], check=True, capture_output=True, timeout=300)
    evalmon = tmp_path / "clean/bin/evalmon"
    listed = subprocess.run([evalmon, "template"], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert listed.split() == [name.removesuffix(".sbatch") for name in TEMPLATES]
    shown = subprocess.run(
        [evalmon, "template", "inspect-eval"], check=True, capture_output=True, text=True, cwd=tmp_path
    ).stdout
    assert shown == (ROOT / "sbatch_templates/inspect-eval.sbatch").read_text()
