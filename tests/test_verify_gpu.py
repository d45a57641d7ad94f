"""Tests scripts/verify-gpu without a GPU: its plan, load and comparison, and the whole with stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from nvml_standin.build import build_cuda
from nvml_standin.world import World
from verify_gpu import compare, peaks, tables
from verify_gpu.plan import Busy, busy_fraction, curve, peaks_plan, phases, plan

ROOT = Path(__file__).resolve().parents[1]
SEVEN = ", ".join(tables.SEVEN)


def test_the_plan_is_idle_then_bursts_then_one_half() -> None:
    for interval_s in (1, 2, 5, 30):
        busy = plan(interval_s)
        fractions = [busy_fraction(busy, phase.start_s, phase.end_s) for phase in phases(interval_s)]
        assert [0, 0.3, 0.5, 0] == pytest.approx(fractions, abs=0.05)
        assert all(one.end_s <= other.start_s for one, other in pairwise(busy))


def test_the_stand_ins_curve_follows_the_plan() -> None:
    assert curve([Busy(1, 2.5), Busy(4, 5)], idle=0, full=100) == "0:0 1.000:100 2.500:0 4.000:100 5.000:0"


def load(libraries: Path, start: float, plan: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "verify_gpu.load", str(start)],
        input=plan,
        env={**os.environ, "LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(ROOT / "scripts")},
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_the_load_is_busy_as_planned_and_reports_when_it_was(tmp_path: Path) -> None:
    start = time.time() + 1
    done = load(build_cuda(tmp_path), start, "0.2 0.5\n0.7 0.8\n")
    assert done.returncode == 0, done.stderr
    [first, second] = [[float(word) - start for word in line.split()] for line in done.stdout.splitlines()]
    assert [0.2, 0.5] == pytest.approx(first, abs=0.15)
    assert [0.7, 0.8] == pytest.approx(second, abs=0.15)


def test_the_load_holds_as_much_memory_as_planned(tmp_path: Path) -> None:
    start = time.time() + 1
    libraries = build_cuda(tmp_path)
    done = load(libraries, start, "0.2 0.6 12288\n0.7 0.8 12288\n")
    assert done.returncode == 0, done.stderr
    [first, second] = [[float(word) - start for word in line.split()] for line in done.stdout.splitlines()]
    assert [0.2, 0.6] == pytest.approx(first, abs=0.15)
    assert [0.7, 0.8] == pytest.approx(second, abs=0.15)
    assert "cuMemAlloc_v2 failed with error 2" in load(libraries, 0, "0 0 16384\n").stderr, "the stand-in has 16 GiB"


def test_the_load_reports_missing_cuda(tmp_path: Path) -> None:
    done = load(tmp_path, 0, "")
    assert done.returncode == 1
    assert done.stderr.startswith("load: ")


@pytest.mark.parametrize(
    ("cell", "shape"),
    [("37 %", "9 %"), ("180.40 W", "9.99 W"), ("[N/A]", "[N/A]"), ("2026/02/20 14:28:12.659", "9/9/9 9:9:9.999")],
)
def test_a_cells_shape_is_the_cell_without_its_number(cell: str, shape: str) -> None:
    assert shape == tables.shape(cell)


def rows_of(times: list[int], utilization: list[int], *, means: list[float] | None = None) -> list[tables.Row]:
    header = SEVEN + (f", timestamp_unix [s], {compare.UTILIZATION_MEAN}" if means else "")
    lines = [header]
    for index, second in enumerate(times):
        stamp = f"2026/02/20 14:00:{second:02d}.000"
        cells = [stamp, f"{utilization[index]} %", "1 %", "100 MiB", "1000 MiB", "70.00 W", "40"]
        if means:
            unix = tables.read(f"timestamp\n{stamp}\n")[0].at
            cells += [f"{unix:.3f}", f"{means[index]:.1f} %"]
        lines.append(", ".join(cells))
    return tables.read("\n".join([*lines, "2026/02/20 14:"]))


def test_instants_miss_a_burst_that_window_means_contain() -> None:
    ours = rows_of([0, 10, 20], [0, 0, 0], means=[0, 30, 29])
    theirs = rows_of([1, 11, 21], [0, 100, 0])
    start = ours[0].at
    busy = [Busy(start + 4, start + 7), Busy(start + 14, start + 17)]
    windows = compare.windows(ours, theirs, busy, [_all_the_time(start)])
    assert compare.errors(windows)["all"] == {
        "truth": 30.0,
        "our_mean": 29.5,
        "our_mean_off": 0.5,
        "our_gpm": None,
        "our_gpm_off": None,
        "our_instant": 0.0,
        "our_instant_off": 30.0,
        "their_instant": 50.0,
        "their_instant_off": 50.0,
    }


def test_columns_of_another_format_are_detected() -> None:
    ours, theirs = rows_of([0], [5]), rows_of([0], [7])
    theirs[0].cells["power.draw [W]"] = "70 W"
    by_name = {column.name: column for column in compare.columns(ours, theirs)}
    assert [["9.99 W"], ["9 W"], 0.0] == [
        by_name["power.draw [W]"].our_shapes,
        by_name["power.draw [W]"].their_shapes,
        by_name["power.draw [W]"].apart_max,
    ]
    assert by_name["utilization.gpu [%]"].apart_max == 2.0
    claims = compare.verdicts(SEVEN + ", index", SEVEN, list(by_name.values()), {})
    assert [True, False, True, False] == list(claims.values())


def test_memory_of_version_1_a_wrong_layout_and_a_wrong_gpm_value_are_detected() -> None:
    ours, theirs = rows_of([0, 5], [5, 5]), rows_of([0, 5], [5, 5])
    for row in ours:
        row.cells["memory.used [MiB]"] = "651 MiB"
    columns = compare.columns(ours, theirs)
    off = {"our_mean_off": 1.0, "their_instant_off": 20.0, "our_gpm_off": 40.0}
    claims = compare.verdicts(SEVEN, SEVEN, columns, off)
    assert [claim for claim, is_so in claims.items() if not is_so] == [
        "memory is nvidia-smi's",
        "GPM's graphics activity is near to the truth",
    ]


def test_a_missing_gpu_is_reported() -> None:
    done = verify_gpu(dict(os.environ), "--gpu", "99")
    assert [69, True] == [done.returncode, done.stdout.startswith("verify-gpu: no GPU 99 here: NVML says: ")]


@pytest.mark.full
def test_with_a_stand_in_the_window_means_are_closer_to_the_truth_than_nvidia_smi(tmp_path: Path) -> None:
    done = verify_gpu(dict(os.environ), "--standin", "--interval", "2", "--json", "--output-dir", str(tmp_path))
    found = json.loads(done.stdout)
    assert all(found["verdicts"].values()), found["verdicts"]
    assert found["utilization"]["all"]["our_mean_off"] < 5
    assert found["utilization"]["all"]["our_gpm_off"] < 5
    assert done.returncode == 0


def test_the_plan_with_peaks_has_bursts_and_peaks_apart() -> None:
    bursts, peaks = peaks_plan(30)
    steps = sorted([*bursts, *peaks], key=lambda step: step.start_s)
    assert all(one.end_s <= other.start_s for one, other in pairwise(steps))
    assert [peak.end_s - peak.start_s for peak in peaks] == pytest.approx([0.5, 1, 3, 10] * 2)


def test_a_window_with_a_missed_or_an_invented_peak_is_detected() -> None:
    rows = [row(0, 4000, 0), row(30, 4000, 20), row(60, 4000, 20), row(90, 9000, 20)]
    memory = [(at / 50, 8000 if at // 50 in {10, 11, 12, 13, 40} else 4000) for at in range(90 * 50)]
    busy, held = [Busy(at, at + 6) for at in (1, 31, 61)], [Busy(10, 14), Busy(40, 41)]
    windows = peaks.windows(rows, memory, busy=busy, peaks=held)
    assert [(window.peak_s, window.true_mib, window.our_mib) for window in windows] == [
        (4, 8000, 4000),
        (1, 8000, 4000),
        (0, 4000, 9000),
    ]
    assert [window.true_pct for window in windows] == [20, 20, 20]
    assert list(peaks.verdicts(windows).values()) == [False, False, True]


def row(at_s: float, highest_mib: int, busy_pct: float) -> tables.Row:
    cells = {"memory.used.window_max [MiB]": f"{highest_mib} MiB", "utilization.gpu.window_mean [%]": f"{busy_pct} %"}
    return tables.Row(at_s, cells)


@pytest.mark.full
def test_with_a_stand_in_peaks_between_two_samples_are_found(tmp_path: Path) -> None:
    words = ("--standin", "--peaks", "--interval", "15", "--json", "--output-dir", str(tmp_path))
    done = verify_gpu(dict(os.environ), *words)
    assert all(json.loads(done.stdout)["verdicts"].values()), done.stdout
    assert done.returncode == 0


def test_a_sliced_gpu_is_not_compared(world: World) -> None:
    world.install_nvidia_smi(world.control.parent / "bin")
    world.slice_up(0, 0, 2)
    path = f"{world.control.parent / 'bin'}:{os.environ['PATH']}"
    for visible in ("0", world.gpus[0].uuid, world.gpus[0].instances[0].uuid):
        done = verify_gpu(world.environment(PATH=path, CUDA_VISIBLE_DEVICES=visible))
        assert [69, True] == [done.returncode, "is sliced (MIG)" in done.stdout]


def verify_gpu(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    environment["PYTHONPATH"] = f"{ROOT / 'scripts'}:{ROOT / 'tests'}"
    command = [sys.executable, "-m", "verify_gpu", *words]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=240)


def _all_the_time(start: float) -> compare.Phase:
    return compare.Phase("all the time", start, start + 1000)
