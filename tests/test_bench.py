"""Tests that scripts/bench measures time, CPU and memory of a command and of everything that it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench_parts.targets import targets

ROOT = Path(__file__).resolve().parents[1]

# Uses 0.2 s of CPU and ends; its orphan uses 0.2 s more of CPU and 30 MiB for a while, in its own session.
_BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
_ORPHANED = """
import os, sys
held = b"x" * 30_000_000
while os.getppid() == int(sys.argv[1]):
    time.sleep(0.01)
time.sleep(0.5)
"""
_BUSY = f"""
import os, subprocess, sys
orphan = {_BURN + _ORPHANED!r}
subprocess.Popen([sys.executable, "-S", "-c", orphan, str(os.getpid())], start_new_session=True)
{_BURN}
"""


def test_orphans_are_measured() -> None:
    code = (
        "import dataclasses, json, os, sys; from bench_parts import processes as p; p.adopt_orphans();"
        "ended = p.run_to_the_end([sys.executable, '-S', '-c', sys.argv[1]], dict(os.environ), has_memory=True);"
        "print(json.dumps(dataclasses.asdict(ended)))"
    )
    done = python("-c", code, _BUSY)
    found = json.loads(done.stdout)
    assert found["status"] == 0
    assert 0.4 <= found["cpu_s"] <= 1
    assert found["gone_s"] >= found["wall_s"] + 0.2
    assert 30 <= found["peak_uss_mib"] <= 80


@pytest.mark.full
def test_a_short_bench_of_the_sampler_has_a_figure_for_everything() -> None:
    words = ["sampler", "--alone", "--pairs", "2", "--seconds", "1", "--tick-seconds", "2"]
    found = json.loads(python("-m", "bench_parts", *words, "--json").stdout)
    assert [row["failed"] for row in found["true"].values()] == [0] * len(found["true"])
    assert [row["status"] for row in found["long"].values()] == [0] * len(found["long"])
    assert all(row["cpu_ms_per_tick"] > 0 and row["bytes_per_hour"] > 0 for row in found["ticks"].values())
    assert 0 < found["ticks"]["8 GPU"]["driver_ms_per_tick"] < found["ticks"]["8 GPU"]["cpu_ms_per_tick"]
    left_out = {row["what"] for row in found["targets"] if row["is_met"] is None}
    assert all("jgm" in what or "look for evals" in what for what in left_out), "the rival, and what takes root"


@pytest.mark.full
def test_a_short_bench_of_polls_measures_changes() -> None:
    found = json.loads(python("-m", "bench_parts", "poll", "--evals", "3500", "--pending", "3400", "--json").stdout)
    assert found["whole"]["running"] == found["whole"]["running_in_state"] == {"": 3400}
    assert [row["cpu_ms"] > 0 for row in found["polls"].values()] == [True] * 4
    assert [row["at_most"] for row in found["targets"]] == [100, 30, 210, 100]


@pytest.mark.full
def test_a_short_bench_of_the_commands_has_a_figure_for_each() -> None:
    words = ["commands", "--alone", "--rounds", "1", "--evals", "300", "--json"]
    found = json.loads(python("-m", "bench_parts", *words).stdout)
    assert [row["failed"] for row in found["commands"].values()] == [0] * 5
    assert [row["measured"] is None for row in found["targets"]] == [False] * 7
    assert [row["at_most"] for row in found["targets"]] == [None] * 5 + [500, 500]


def measured(jgm: float | None) -> dict[str, object]:
    runs = {"evalmon run": 30.0, "evalmon run, in a job": 45.0, **({} if jgm is None else {"jgm run": jgm})}
    runs["python of evalmon's venv"] = 11.0
    return {
        "true": {name: {"wall_ms": {"median": ms}, "cpu_ms": {"median": ms}} for name, ms in runs.items()},
        "start": {name: {"start_ms": {"median": 14.0}} for name in runs},
        "long": {name: {"cpu_s": ms / 1000, "peak_pss_mib": 10.0} for name, ms in runs.items()},
        "ticks": {"8 GPU": {"own_ms_per_tick": 1.2}},
        "GPU looks": {"1 GPU": {"cpu_s_per_hour": 0.7}},
    }


def test_targets_are_shown_beside_the_measurements() -> None:
    met = {one.what: one.is_met for one in targets(measured(80.0), seconds=60)}
    assert [what for what, is_met in met.items() if not is_met] == [
        "evalmon run, in a job -- true: half the time of jgm run",
        "evalmon run, in a job -- true: half the CPU of jgm run",
        "evalmon run, in a job, long: half the CPU of jgm run",
        "a tick with 8 GPUs, without the driver's part: CPU",
        "a look for evals each second, beside 50 processes: CPU in an hour",
    ]
    assert len(met) == 19


def test_a_target_that_was_not_measured_is_not_met() -> None:
    assert {one.is_met for one in targets({}, seconds=60)} == {None}
    assert [one.is_met for one in targets(measured(None), seconds=5) if "jgm" in one.what] == [None] * 8


def python(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}"}
    command = [sys.executable, *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
