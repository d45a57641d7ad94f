"""Runs scripts/verify-gpu: starts load and samplers together, and compares what they report."""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

from verify_gpu import compare, peaks, report, side_by_side, tables
from verify_gpu.options import parser
from verify_gpu.plan import Busy, Phase, phases, plan
from verify_gpu.setting import NoGpuError, Setting, real_setting, standin_setting

_UNAVAILABLE = 69  # EX_UNAVAILABLE
# The samplers are up before the load begins, and see the end of it.
_LEAD_S = 2.0


def main() -> int:
    """0: all as expected; 1: something is not; 69: no GPU here."""
    options = parser().parse_args()
    options.interval = options.interval or (30 if options.peaks else 5)
    with tempfile.TemporaryDirectory(prefix="evalmon-verify-gpu.") as scratch:
        try:
            setting = standin_setting(Path(scratch), options) if options.standin else real_setting(options.gpu)
        except NoGpuError as error:
            print(f"verify-gpu: {error}")
            return _UNAVAILABLE
        output = options.output_dir or Path(scratch)
        output.mkdir(parents=True, exist_ok=True)
        start = setting.start or time.time() + _LEAD_S
        return (_verify_peaks if options.peaks else _verify)(setting, output, start, options)


def _verify(setting: Setting, output: Path, start: float, options: argparse.Namespace) -> int:
    busy, steps = _run(setting, output, start, options.interval)
    our_text = _text(output / "gpu_metrics.csv")
    their_text = _text(output / "nvidia-smi.csv")
    ours, theirs = tables.read(our_text), tables.read(their_text)
    windows = compare.windows(ours, theirs, busy, steps)
    if not windows or not theirs:
        print("verify-gpu: no samples: the logs are in --output-dir, if given; evalmon sample or nvidia-smi failed")
        return 1
    errors, columns = compare.errors(windows), compare.columns(ours, theirs)
    our_header, their_header = our_text.partition("\n")[0], their_text.partition("\n")[0]
    found = {
        "gpu": setting.name,
        "driver": setting.driver,
        "interval_s": options.interval,
        "utilization": errors,
        "columns": [dataclasses.asdict(column) for column in columns],
        "power": compare.power(ours, theirs),
        "verdicts": compare.verdicts(our_header, their_header, columns, errors["all"]),
        "windows": [dataclasses.asdict(window) for window in windows],
    }
    (output / "verify-gpu.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2) if options.json else report.text(found, columns, errors))
    return 0 if all(found["verdicts"].values()) else 1


def _verify_peaks(setting: Setting, output: Path, start: float, options: argparse.Namespace) -> int:
    windows = peaks.measure(setting, output, start, interval_s=options.interval)
    verdicts = peaks.verdicts(windows)
    found = {
        "gpu": setting.name,
        "driver": setting.driver,
        "interval_s": options.interval,
        "verdicts": verdicts,
        "windows": [dataclasses.asdict(window) for window in windows],
    }
    (output / "verify-gpu-peaks.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2) if options.json else f"{setting.name}, driver {setting.driver}\n")
    if not options.json:
        print(peaks.text(windows), "", *report.verdicts(verdicts), sep="\n")
    return 0 if all(verdicts.values()) else 1


def _run(setting: Setting, output: Path, start: float, interval_s: int) -> tuple[list[Busy], list[Phase]]:
    """Run the three side by side; returns when the GPU was busy, and the phases, in unix seconds."""
    query = ",".join(column.partition(" ")[0] for column in tables.SEVEN)
    smi = [setting.nvidia_smi, f"--query-gpu={query}", "--format=csv", "-i", setting.uuid, "-l", str(interval_s)]
    planned = "".join(f"{one.start_s} {one.end_s}\n" for one in plan(interval_s))
    steps = [Phase(one.name, start + one.start_s, start + one.end_s) for one in phases(interval_s)]
    until = steps[-1].end_s + interval_s
    readings = output / "nvidia-smi.csv"
    busy = side_by_side.run(setting, smi, readings, planned, start=start, until=until, interval_s=interval_s)
    return busy, steps


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main())
