"""Runs the real `evalmon run` and `evalmon sample` with the NVML stand-in."""

import csv
import subprocess
import sys
from pathlib import Path

from agent.in_a_job import RUN, environ
from nvml_standin.world import World

SAMPLE = [sys.executable, "-E", "-P", "-m", "evalmon_agent", "sample"]
UUIDS = ["GPU-00000000-1111-2222-3333-444455556666", "GPU-00000001-1111-2222-3333-444455556666"]


def rows_of(path: Path) -> list[dict[str, str]]:
    """A file's rows by header name; every line is complete and has as many cells as the header."""
    text = path.read_text()
    assert text.endswith("\n")
    table = [[cell.strip() for cell in line] for line in csv.reader(text.splitlines(), skipinitialspace=True)]
    assert {len(line) for line in table} == {len(table[0])}
    return [dict(zip(table[0], line, strict=True)) for line in table[1:]]


def sample_for(
    world: World, output: Path, seconds: float, **more: str
) -> tuple[subprocess.CompletedProcess[str], list[dict[str, str]]]:
    """Run `evalmon run` with a sleep that begins with the first row; returns the GPUs' rows, none without a file."""
    path = output / "gpu_metrics.csv"
    script = f'n=0; until [ -s "$0" ] || [ $n = 200 ]; do n=$((n + 1)); sleep 0.05; done; sleep {seconds}'
    argv = [*RUN, "--output-dir", str(output), "--sample-interval", "1", "--", "sh", "-c", script, str(path)]
    environment = world.environment(environ(), **more)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done, rows_of(path) if path.exists() else []
