"""Tests what a row says about the time since the row before: peaks of memory and the mean utilization."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from in_a_job import environ
from sampled import SAMPLE, rows_of

from evalmon_agent.words.csv_columns import GpuColumn
from nvml_standin.world import World

LEVEL_MIB, PEAK_MIB = 3682, 54883
USED, HIGHEST = GpuColumn.MEMORY_USED_MIB.header, GpuColumn.MEMORY_MAX_MIB.header
MEAN, ACTIVITY = GpuColumn.UTILIZATION_MEAN_PCT.header, GpuColumn.GRAPHICS_ACTIVITY_PCT.header


@contextmanager
def sampling(world: World, output: Path, interval_s: int) -> Iterator[Path]:
    """`evalmon sample`, from its first row on."""
    path = output / "gpu_metrics.csv"
    argv = [*SAMPLE, "--output-dir", str(output), "--interval", str(interval_s)]
    with subprocess.Popen(argv, env=world.environment(environ()), stdin=subprocess.DEVNULL) as sampler:
        try:
            wait_for_rows(path, len(world.gpus))
            yield path
        finally:
            sampler.terminate()


def wait_for_rows(path: Path, count: int, *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not path.exists() or path.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def use_memory(world: World, gpu: int, seconds: float) -> None:
    world.gpus[gpu].memory_used_mib = PEAK_MIB
    world.write()
    time.sleep(seconds)
    world.gpus[gpu].memory_used_mib = LEVEL_MIB
    world.write()


def number(cell: str) -> float:
    return float(cell.split(maxsplit=1)[0])


def test_a_memory_peak_between_two_ticks_is_in_the_next_row_only(world: World, tmp_path: Path) -> None:
    for gpu in world.gpus:
        gpu.memory_used_mib = LEVEL_MIB
    world.write()
    with sampling(world, tmp_path, 5) as path:
        use_memory(world, 0, 3)
        wait_for_rows(path, 6)
    rows = rows_of(path)
    assert {row[USED] for row in rows} == {f"{LEVEL_MIB} MiB"}
    of_gpu = [[row[HIGHEST] for row in rows if row["index"] == index][:3] for index in ("0", "1")]
    assert of_gpu == [[f"{mib} MiB" for mib in (LEVEL_MIB, PEAK_MIB, LEVEL_MIB)], [f"{LEVEL_MIB} MiB"] * 3]


@pytest.mark.full
def test_windows_of_30_s_have_peaks_of_3_s_and_the_mean_of_the_whole_window(tmp_path: Path, standin: Path) -> None:
    """Shorter peaks may fall between two looks. The driver's buffer is shorter than the window."""
    lengths_s = (0.5, 1, 3, 10)
    world = World(tmp_path, standin, gpus=len(lengths_s))
    for number_of, gpu in enumerate(world.gpus):
        gpu.memory_used_mib, gpu.utilization, gpu.gpm = LEVEL_MIB, 0, number_of % 2 == 0
    world.write()
    with sampling(world, tmp_path / "out", 30) as path:
        since_s = float(rows_of(path)[0]["timestamp_unix [s]"]) - world.epoch
        for gpu, length_s in zip(world.gpus, lengths_s, strict=True):
            # Busy in the first third, which the buffer has dropped at the end.
            gpu.utilization = f"0:0 {since_s + 1:.3f}:100 {since_s + 11:.3f}:0"
            peak_s = since_s + 15.5
            gpu.memory_used_mib = f"0:{LEVEL_MIB} {peak_s:.3f}:{PEAK_MIB} {peak_s + length_s:.3f}:{LEVEL_MIB}"
        world.write()
        wait_for_rows(path, 2 * len(lengths_s))
    rows = rows_of(path)[len(lengths_s) : 2 * len(lengths_s)]
    for row, length_s in zip(rows, lengths_s, strict=True):
        print(f"a peak of {length_s} s: {row[USED]} at the tick, {row[HIGHEST]} in the window of {PEAK_MIB} MiB")
        if length_s >= 3:
            assert number(row[HIGHEST]) == pytest.approx(PEAK_MIB, rel=0.02)
    with_gpm, without = rows[::2], rows[1::2]
    assert [number(row[ACTIVITY]) for row in with_gpm] == pytest.approx([100 / 3] * 2, abs=2)
    assert [number(row[MEAN]) for row in without] == pytest.approx([100 / 3] * 2, abs=2)
