"""Tests that in-job programs import only the standard library; the sampler also pynvml."""

import re
import sys
from pathlib import Path

import pytest
from in_a_job import Experiment, call, environ, started

from faults import wait_until

PYTHON = [sys.executable, "-E", "-P", "-X", "importtime"]
AGENT = [*PYTHON, "-m", "evalmon_agent"]
OURS = sys.stdlib_module_names | {"evalmon_agent", "org"}  # the module copy looks for Jython's org.python


def packages(importtime: str) -> set[str]:
    """The top-level modules that CPython reports as imported."""
    return set(re.findall(r"^import time: +\d+ \| +\d+ \| +(\w+)", importtime, re.MULTILINE))


def foreign(importtime: str) -> set[str]:
    """Without the standard library's modules, evalmon's, and what site-packages' .pth files import."""
    at_start = packages(call([*PYTHON, "-c", ""], environ()).stderr)
    assert "os" in at_start
    return packages(importtime) - at_start - OURS


@pytest.mark.parametrize("words", [["run", "--", "true"], ["hook"]])
def test_around_an_eval_only_the_standard_library_is_imported(words: list[str], experiment: Experiment) -> None:
    done = call([*AGENT, *words], experiment.environ())
    assert done.returncode == 0
    assert foreign(done.stderr) == set()


def test_the_sampler_imports_pynvml_only(tmp_path: Path) -> None:
    """It imports it when it looks for GPUs."""
    with started([*AGENT, "sample", "--output-dir", str(tmp_path)], environ()) as sampler:
        wait_until((tmp_path / "host_metrics.csv").exists)
        sampler.terminate()
        _, importtime = sampler.communicate(timeout=30)
    assert foreign(importtime) <= {"pynvml"}
    assert "evalmon_agent" in packages(importtime)


def test_what_takes_long_to_import_is_not_imported_before_the_command_starts() -> None:
    """dataclasses (with inspect) takes 9 ms, the others 1 to 3 [ran]."""
    code = "from evalmon_agent.agent import arguments, run; arguments.parse_run(['--script', '--', 'true'])"
    done = call([*PYTHON, "-c", code], environ())
    assert "evalmon_agent" in packages(done.stderr)
    assert packages(done.stderr).isdisjoint({"dataclasses", "difflib", "inspect", "json", "shutil"})
