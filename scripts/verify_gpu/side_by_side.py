"""Runs `evalmon sample` and another reader of the GPU while the load does what is planned."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from verify_gpu.plan import Busy
from verify_gpu.setting import EVALMON, Setting


def run(
    setting: Setting,
    reader: Sequence[str],
    readings: Path,
    planned: str,
    *,
    start: float,
    until: float,
    interval_s: int,
) -> list[Busy]:
    """Run both readers beside the load; returns what the load really did, in the order of the plan.

    Args:
        setting: the GPU and the environment.
        reader: the other reader's argv.
        readings: the file for its output; evalmon's and the logs are written beside it.
        planned: lines as load.py reads them.
        start: of the plan; like `until`, the earliest end of both readers, in unix seconds.
        until: see `start`.
        interval_s: between two samples of evalmon's.

    Raises:
        subprocess.CalledProcessError: the load failed; it says why on stderr.
    """
    output = readings.parent
    sample = [str(EVALMON), "sample", "--output-dir", str(output), "--interval", str(interval_s)]
    with open(readings, "w") as table, open(output / "sample.log", "w") as log:
        programs = [
            subprocess.Popen(argv, env=setting.environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=log)
            for argv, stdout in ((sample, log), (reader, table))
        ]
        try:
            load = [sys.executable, "-m", "verify_gpu.load", str(start)]
            done = subprocess.run(
                load, env=setting.environment, input=planned, stdout=subprocess.PIPE, text=True, check=True
            )
            time.sleep(max(0.0, until - time.time()))
        finally:
            for program in programs:
                program.terminate()
            for program in programs:
                program.wait(timeout=30)
    return [Busy(*map(float, line.split())) for line in done.stdout.splitlines()]
