"""scripts/bench measures what it says: time, CPU and memory of a command and of all that it leaves behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Uses 0.2 s of CPU and ends; its orphan uses 0.2 s more of CPU and 30 MiB for a while, in a session of its own.
_BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
_BUSY = f"""
import subprocess, sys
orphan = {_BURN + "held = b'x' * 30_000_000" + chr(10) + "time.sleep(0.5)"!r}
subprocess.Popen([sys.executable, "-S", "-c", orphan], start_new_session=True)
{_BURN}
"""


def test_orphans_count_too() -> None:
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


def python(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}"}
    command = [sys.executable, *words]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=120)
