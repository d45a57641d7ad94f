"""Tests the import rules: in a copy of the tree, one forbidden import for each room is detected."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "evalmon_agent"
LINT = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"

FORBIDDEN = {
    "errors": "words.states",
    "progress_bar": "words.states",
    "words": "files.replace",
    "files": "tracking.tracker",
    "evidence": "settings",
    "evidence.kinds": "collect.eval_logs",
    "settings": "evidence.result",
    "agent": "files.lock",
    "agent.sampling": "words.durations",
    "slurm": "figures",
    "slurm.squeue": "slurm.client",
    "figures": "tracking.blocks",
    "tracking": "summary.build",
    "summary": "submission.plan",
    "submission": "experiment.experiment",
    "experiment": "monitor.poll",
    "cli": "commands.submit",
    "session": "jobs.register",
    "jobs": "monitor.poll",
    "collect": "jobs.register",
    "notify": "monitor.poll",
    "monitor": "submitting.submit_evals",
    "submitting": "commands.submit",
    "checks": "commands.doctor",
    "report_page": "commands.report",
    "commands.sidecar": "report_page.page",
}
OUTSIDE = {
    "agent": "click",
    "tracking": "subprocess",
    "files": "subprocess",
    "commands": "subprocess",
    "evidence": "pynvml",
    "monitor": "apprise",
    "report_page": "vl_convert",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    shutil.copytree(PACKAGE, copy / "evalmon_agent", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(tree: Path) -> tuple[int, str]:
    environ = {**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "400"}
    done = subprocess.run(
        [sys.executable, "-c", LINT], cwd=tree, env=environ, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def lint_with(tree: Path, room: str, line: str) -> tuple[int, str]:
    """The checker's output for a tree in which a module of that room has this line, too."""
    path = tree.joinpath("evalmon_agent", *room.split("."))
    module = path / "one_more.py" if path.is_dir() else path.with_suffix(".py")
    before = module.read_text() if module.exists() else None
    module.write_text(f"{before or ''}\n{line}\n")
    try:
        return lint(tree)
    finally:
        if before is None:
            module.unlink()
        else:
            module.write_text(before)


def test_the_tree_follows_the_rules(tree: Path) -> None:
    status, said = lint(tree)
    assert status == 0, said
    assert " 0 broken" in said


@pytest.mark.parametrize(("room", "other"), FORBIDDEN.items())
def test_a_forbidden_import_in_a_room_is_detected(tree: Path, room: str, other: str) -> None:
    status, said = lint_with(tree, room, f"import evalmon_agent.{other}")
    assert status == 1, said
    assert f"-> evalmon_agent.{other}" in said, said


@pytest.mark.parametrize(("room", "package"), OUTSIDE.items())
def test_a_forbidden_package_in_a_room_is_detected(tree: Path, room: str, package: str) -> None:
    status, said = lint_with(tree, room, f"import {package}")
    assert status == 1, said
    assert f"-> {package}" in said, said


def test_every_room_has_a_forbidden_import_here() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__", "__main__"} == {room.partition(".")[0] for room in FORBIDDEN} | {"commands"}


def test_a_new_room_needs_a_rule(tree: Path) -> None:
    room = tree / "evalmon_agent" / "new_room"
    room.mkdir()
    (room / "__init__.py").touch()
    try:
        status, said = lint(tree)
    finally:
        shutil.rmtree(room)
    assert status == 1, said
    assert "new_room" in said, said
