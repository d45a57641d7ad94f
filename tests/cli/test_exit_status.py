"""Tests that bugs (70), system errors (74) and missing permissions (77) never end with 1, a failed eval's status."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from as_root import not_as_root
from experiments import Exp, ended


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.slurm.show([ended("11")])
    exp.observe_to_the_end()
    return exp


def evalmon(exp: Exp, *words: str, **environ: str) -> tuple[int, str, str]:
    done = exp.evalmon(*words, env=environ)
    return done.returncode, done.stdout, done.stderr


def broken(directory: Path, module: str) -> str:
    """A directory for PYTHONPATH in which this module is broken, as during an upgrade."""
    place = directory / "broken"
    place.mkdir()
    (place / f"{module}.py").write_text("1 / 0\n")
    return str(place)


@pytest.mark.parametrize("module", ["yaml", "click"])
@pytest.mark.parametrize("command", ["status", "sidecar", "complete"])
def test_a_bug_ends_with_70_in_one_line_and_a_traceback_only_with_debug(
    exp: Exp, tmp_path: Path, command: str, module: str
) -> None:
    path = broken(tmp_path, module)
    code, out, err = evalmon(exp, command, ".", PYTHONPATH=path)
    assert (code, out, err.count("\n")) == (70, "", 1)
    assert err.startswith("evalmon: ZeroDivisionError: division by zero; ")
    assert "run it again with evalmon --debug" in err
    code, out, err = evalmon(exp, "--debug", command, ".", PYTHONPATH=path)
    assert (code, out, err.count("Traceback (most recent")) == (70, "", 1)


def test_a_bug_in_run_keeps_the_commands_exit_status(exp: Exp, tmp_path: Path) -> None:
    path = broken(tmp_path, "argparse")
    assert evalmon(exp, "run", "--", "sh", "-c", "exit 7", PYTHONPATH=path)[0] == 7
    assert evalmon(exp, "sample", "--output-dir", ".", PYTHONPATH=path)[0] == 70


def test_a_system_error_ends_with_74_and_advice(exp: Exp) -> None:
    """A directory in place of the summary."""
    place = exp.ours / "summary.json"
    place.unlink(missing_ok=True)
    (place / "in the way").mkdir(parents=True)
    code, out, err = evalmon(exp, "report", ".")
    assert (code, out) == (74, "")
    assert err == (
        f"evalmon: {place}: Is a directory; run it again; "
        "if it fails again, evalmon doctor EXP checks the file system\n"
    )


@not_as_root
def test_a_missing_permission_ends_with_77(exp: Exp) -> None:
    registry = exp.ours / "registry.jsonl"
    registry.chmod(0)
    code, out, err = evalmon(exp, "report", ".")
    assert (code, out, err.count("\n")) == (77, "", 1)
    assert f"{registry}: Permission denied; ask the owner" in err


def test_a_closed_output_pipe_is_no_failed_eval(exp: Exp) -> None:
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "evalmon_agent", "status", "."]
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run(
            argv, env=exp.slurm.environ, cwd=exp.root, stdout=pipe, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (74, b"")


def test_sampling_without_a_stderr_ends_with_74(exp: Exp) -> None:
    argv = f"exec {sys.executable} -m evalmon_agent sample --output-dir . 2>&-"
    done = subprocess.run(["sh", "-c", argv], env=exp.slurm.environ, cwd=exp.root, check=False, timeout=60)
    assert done.returncode == 74
