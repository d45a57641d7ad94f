"""Tests the first commands of README.md and the first script of docs/in-your-own-scripts.md, word for word."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from real_slurm.cluster import ROOT, Cluster, Exp, wait_for

pytestmark = pytest.mark.slurm

TASKS = ROOT / "scripts" / "demo_files" / "tasks.py"
FIRST, LAST = "## Install\n", "## What you type\n"


def blocks(page: Path, language: str) -> list[str]:
    """The text of each code block of that language."""
    return re.findall(rf"^```{language}\n(.+?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def quick_start() -> str:
    """All commands of README.md from the installation to the user's own evals, as one script."""
    text = (ROOT / "README.md").read_text()
    section = text[text.index(FIRST) : text.index(LAST)]
    commands = re.findall(r"^```sh\n(.+?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(commands) == section.count("```") // 2, "each block of this section is one of commands"
    return "".join(commands)


def a_checkout(directory: Path) -> Path:
    """A new user's clone: nothing is installed or built."""
    left_out = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "build", "dist")
    return shutil.copytree(ROOT, directory, ignore=left_out)


def test_the_quick_start_of_the_readme_leads_to_a_summary(cluster: Cluster, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    try:
        # Each command must succeed, and is printed with its output.
        done = cluster.run(
            *("bash", "-eux", "-o", "pipefail", "-c", quick_start()),
            cwd=str(a_checkout(tmp_path / "checkout")),
            env={"HOME": str(home)},
            timeout=400,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        check_summary(home, done.stdout)
    finally:
        Exp(home / "study", cluster).cancel_all()


def check_summary(home: Path, printed: str) -> None:
    assert "submitted r8/hello/epoch0" in printed
    assert "The eval succeeded\nMonitoring is complete\n" in printed  # status
    assert "# Evaluation summary (complete)\n\n**The eval succeeded**\n" in printed  # report
    ours = home / "study" / "evalmon"
    wait_for((ours / "report.html").exists, 60, (ours / "monitor.log").read_text)
    summary = json.loads((ours / "summary.json").read_text())
    assert (summary["complete"], [ev["verdict"] for ev in summary["evals"]]) == (True, ["ok"])
    assert (home / "study/r8/eval/mytask_epoch0.slurm").read_text().startswith("#!/bin/bash\n")


def test_a_script_with_the_documented_line_is_an_eval_of_the_experiment(exp: Exp) -> None:
    script = blocks(ROOT / "docs" / "in-your-own-scripts.md", "bash")[0]
    assert 'eval "$(evalmon hook)"' in script
    (exp.root / "adapter").mkdir()
    (exp.root / "adapter" / "adapter.json").write_text('{"accuracy": 1.0}')
    # A user's own task and model.
    script = script.replace("task.py@task", f"{TASKS}@arithmetic -T adapter={exp.root}/adapter -T pace_s=0")
    script = script.replace("hf/local", "mockllm/model")
    path = exp.script("r8", "mytask_epoch0", "", header=script)
    exp.cluster.run("sbatch", path.name, cwd=str(path.parent), env={"PATH": with_evalmon(exp)})
    wait_for(lambda: reported(exp), 60, exp.outputs)
    assert exp.evalmon("report", str(exp.root)).returncode == 0
    ev = exp.evals()["r8/mytask/epoch0"]
    assert (ev["state"], ev["verdict"], ev["result"]["status"]) == ("COMPLETED", "ok", "success")


def with_evalmon(exp: Exp) -> str:
    return f"{ROOT}/.venv/bin:{exp.cluster.environ['PATH']}"


def reported(exp: Exp) -> bool:
    """Whether a job has reported its own end."""
    reports = [json.loads(path.read_text()) for path in (exp.ours / "jobs").glob("*.json")]
    return any(report["attempts"][-1]["ended_at"] is not None for report in reports)


@pytest.mark.full
def test_the_demo_of_the_readme_succeeds(cluster: Cluster, tmp_path: Path) -> None:
    """The demo compares evalmon's summary with the intended ends of its eight evals."""
    done = cluster.run(str(ROOT / "scripts" / "demo"), "--dir", str(tmp_path / "demo"), timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "What to try next" in done.stdout


def test_the_readme_names_these_two_commands_first() -> None:
    first = blocks(ROOT / "README.md", "sh")[0]
    assert [line.split()[0] for line in first.splitlines()] == ["scripts/demo", "scripts/test"]
    for name in ("demo", "test"):
        assert subprocess.run([ROOT / "scripts" / name, "--help"], check=False, capture_output=True).returncode == 0
