"""`verify-gpu --peaks`: short peaks of memory between two ticks, compared with 50 readings a second."""

import sys
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from evalmon_agent.words.csv_columns import GpuColumn
from verify_gpu import side_by_side
from verify_gpu.compare import ACTIVITY, UTILIZATION_MEAN
from verify_gpu.plan import PEAK_MIB, Busy, Peak, busy_fraction, peaks_length_s, peaks_plan
from verify_gpu.setting import Setting
from verify_gpu.tables import Row, read

# Readings once a second certainly see a peak of at least this length.
_SURE_S = 3
_MEMORY_OFF, _UTILIZATION_OFF_PCT = 0.02, 2.0

_MEMORY, _HIGHEST = GpuColumn.MEMORY_USED_MIB.header, GpuColumn.MEMORY_MAX_MIB.header


@dataclass(frozen=True)
class Window:
    """The time between two of evalmon's ticks. Memory in MiB, utilization in percent; None: not known.

    Attributes:
        peak_s: of the longest peak that lies in it.
        at_tick_mib: the value at the ticks alone.
    """

    start_s: float
    end_s: float
    peak_s: float
    true_mib: float
    our_mib: float | None
    at_tick_mib: float | None
    true_pct: float
    our_pct: float | None


def measure(setting: Setting, output: Path, start: float, *, interval_s: int) -> list[Window]:
    """Run load, sampler and reader side by side.

    Raises:
        subprocess.CalledProcessError: the load failed; it says why on stderr.
    """
    bursts, peaks = peaks_plan(interval_s)
    steps = sorted([*bursts, *peaks], key=lambda step: step.start_s)
    planned = "".join(
        f"{step.start_s} {step.end_s}{f' {PEAK_MIB}' if isinstance(step, Peak) else ''}\n" for step in steps
    )
    reader = [sys.executable, "-m", "verify_gpu.memory_reader", setting.uuid]
    until = start + peaks_length_s(interval_s) + 2
    readings = output / "memory.txt"
    happened = side_by_side.run(setting, reader, readings, planned, start=start, until=until, interval_s=interval_s)
    by_kind = list(zip(steps, happened, strict=True))
    return windows(
        read((output / "gpu_metrics.csv").read_text()),
        [(float(at), int(mib)) for at, mib in map(str.split, readings.read_text().splitlines())],
        busy=[real for step, real in by_kind if not isinstance(step, Peak)],
        peaks=[real for step, real in by_kind if isinstance(step, Peak)],
    )


def windows(
    rows: Sequence[Row], memory: Sequence[tuple[float, int]], *, busy: Sequence[Busy], peaks: Sequence[Busy]
) -> list[Window]:
    """One for each pair of ticks, except the one in which the load had not begun yet. All in unix seconds."""
    times = [at for at, _ in memory]
    result = []
    for before, row in pairwise(rows):
        reads = [mib for _, mib in memory[bisect_right(times, before.at) : bisect_right(times, row.at)]]
        if not reads or not busy or row.at <= busy[0].start_s:
            continue
        seconds = row.at - before.at
        activity, mean = row.number(ACTIVITY), row.number(UTILIZATION_MEAN)
        result.append(
            Window(
                start_s=before.at,
                end_s=row.at,
                peak_s=round(max(busy_fraction([peak], before.at, row.at) * seconds for peak in peaks), 2),
                true_mib=max(reads),
                our_mib=row.number(_HIGHEST),
                at_tick_mib=row.number(_MEMORY),
                true_pct=round(100 * busy_fraction(busy, before.at, row.at), 2),
                our_pct=mean if activity is None else activity,
            )
        )
    return result


def verdicts(found: Sequence[Window]) -> dict[str, bool]:
    """The expectations."""
    sure = [window for window in found if window.peak_s >= _SURE_S]
    off = [abs(window.true_pct - window.our_pct) for window in found if window.our_pct is not None]
    return {
        f"memory is within 2 % where the peak lasted {_SURE_S} s or more": bool(sure)
        and all(_is_near(window) for window in sure),
        "no window has more memory than there was": all(
            window.our_mib is None or window.our_mib <= window.true_mib * (1 + _MEMORY_OFF) for window in found
        ),
        "mean utilization is within 2 points of the truth": bool(off) and fmean(off) <= _UTILIZATION_OFF_PCT,
    }


def _is_near(window: Window) -> bool:
    return window.our_mib is not None and abs(window.our_mib - window.true_mib) <= _MEMORY_OFF * window.true_mib


def text(found: Sequence[Window]) -> str:
    """The windows for people."""
    heads = ("window s", "peak s", "true MiB", "ours MiB", "at the tick MiB", "true %", "ours %")
    cells = [
        (
            f"{window.end_s - window.start_s:.1f}",
            f"{window.peak_s:g}",
            *map(_number, (window.true_mib, window.our_mib, window.at_tick_mib, window.true_pct, window.our_pct)),
        )
        for window in found
    ]
    return "\n".join("".join(cell.rjust(17) for cell in row) for row in (heads, *cells))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}".removesuffix(".0")
