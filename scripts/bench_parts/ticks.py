"""Measures the sampler alone: its first row, and the cost of a tick, of a reading between two ticks, and of an hour."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_parts.contenders import EVALMON, Place
from bench_parts.processes import cpu_of, memory_of, spawn

_TICKS_PER_HOUR = 120  # one per 30 s, the default
_SETTLED_AFTER_S = 3.0
_FIRST_ROW_WITHIN_S = 30.0
_NO_TICK_S = 3600


def measure(scratch: Path, *, gpus: tuple[int, ...], seconds: float, is_real: bool) -> dict[str, dict[str, object]]:
    """A tick a second for `seconds` with each number of stand-in GPUs, or with those of this machine.

    Without a GPU there is still the host to look at; what a GPU adds is the difference.
    """
    if is_real:
        return {"real": _measure(Place(scratch / "ticks", gpus=1, is_real=True), seconds)}
    places = {f"{count} GPU": Place(scratch / f"ticks-{count}", gpus=count, is_real=False) for count in gpus}
    figures = {name: _measure(place, seconds) for name, place in places.items()}
    most = max(gpus)
    figures[f"{most} GPU"] |= _without_driver(scratch, most, figures[f"{most} GPU"].get("cpu_ms_per_tick"), seconds)
    return figures


def _without_driver(scratch: Path, gpus: int, all_ms: object, seconds: float) -> dict[str, object]:
    """The driver's part, from a separate run: reading the clock at each call costs more than the calls."""
    account = scratch / "driver-cpu"
    place = Place(scratch / "driver", gpus=gpus, is_real=False, driver_cpu=account)
    driver_ms = _measure(place, seconds).get("driver_ms_per_tick")
    if not isinstance(all_ms, float) or not isinstance(driver_ms, float):
        return {}
    return {"driver_ms_per_tick": driver_ms, "own_ms_per_tick": round(all_ms - driver_ms, 3)}


def gpu_looks(scratch: Path, *, gpus: tuple[int, ...], seconds: float, is_real: bool) -> dict[str, dict[str, object]]:
    """The cost of the readings each second between two ticks: `seconds` without a tick."""
    if is_real:
        return {"real": _looks(Place(scratch / "looks", gpus=1, is_real=True), seconds)}
    places = {f"{count} GPU": Place(scratch / f"looks-{count}", gpus=count, is_real=False) for count in gpus}
    return {name: _looks(place, seconds) for name, place in places.items()}


def _looks(place: Place, seconds: float) -> dict[str, object]:
    with _sampler(place, interval_s=_NO_TICK_S) as (pid, output, _):
        if output is None:
            return {"error": "no row was written"}
        time.sleep(_SETTLED_AFTER_S)
        before_s = cpu_of(pid)
        time.sleep(seconds)
        cpu_s = cpu_of(pid) - before_s
        return {
            "cpu_ms_per_second": round(cpu_s * 1000 / seconds, 3),
            "cpu_s_per_hour": round(cpu_s * 3600 / seconds, 3),
        }


def _measure(place: Place, seconds: float) -> dict[str, object]:
    with _sampler(place, interval_s=1) as (pid, output, first_row_s):
        if output is None:
            return {"error": "no row was written"}
        time.sleep(_SETTLED_AFTER_S)
        before = cpu_of(pid), _ticks(output), _bytes(output), _driver_s(place)
        time.sleep(seconds)
        after = cpu_of(pid), _ticks(output), _bytes(output), _driver_s(place)
        pss_mib, uss_mib = memory_of(pid)
        return {
            **_per_tick(before, after),
            "first_row_ms": round(first_row_s * 1000, 1),
            "cpu_until_settled_ms": round(before[0] * 1000, 1),
            "pss_mib": round(pss_mib, 1),
            "uss_mib": round(uss_mib, 1),
            "stop_ms": round(_stop(pid) * 1000, 1),
        }


@contextmanager
def _sampler(place: Place, *, interval_s: int) -> Iterator[tuple[int, Path | None, float]]:
    """Its pid, its output (None without one), and the seconds until its first row."""
    environment = place.environment("sampler")
    output = Path(environment["HOME"]) / "output"
    first = output / ("gpu_metrics.csv" if place.gpus else "host_metrics.csv")
    started = time.monotonic()
    pid = spawn([str(EVALMON), "sample", "--output-dir", str(output), "--interval", str(interval_s)], environment)
    try:
        is_there = True
        while is_there and not _rows(first):
            is_there = not os.waitpid(pid, os.WNOHANG)[0] and time.monotonic() - started <= _FIRST_ROW_WITHIN_S
            time.sleep(0.001)
        yield pid, output if is_there else None, time.monotonic() - started
    finally:
        _stop(pid)


def _per_tick(before: tuple[float, int, int, float], after: tuple[float, int, int, float]) -> dict[str, object]:
    cpu_s, ticks, size, driver_s = (late - early for late, early in zip(after, before, strict=True))
    if not ticks:
        return {"error": "no ticks"}
    driver = {"driver_ms_per_tick": round(driver_s * 1000 / ticks, 3)} if driver_s else {}
    return {
        "ticks": ticks,
        "cpu_ms_per_tick": round(cpu_s * 1000 / ticks, 3),
        "cpu_s_per_hour": round(cpu_s / ticks * _TICKS_PER_HOUR, 3),
        "bytes_per_hour": round(size / ticks * _TICKS_PER_HOUR),
        **driver,
    }


def _driver_s(place: Place) -> float:
    """CPU time of the stand-in's calls so far, if it adds that up."""
    account = place.driver_cpu
    return int.from_bytes(account.read_bytes()[:8], sys.byteorder) / 1e9 if account and account.exists() else 0.0


def _ticks(output: Path) -> int:
    """The host has one row per tick, however many GPUs there are."""
    return _rows(output / "host_metrics.csv")


def _rows(metrics: Path) -> int:
    return max(metrics.read_bytes().count(b"\n") - 1, 0) if metrics.exists() else 0


def _bytes(output: Path) -> int:
    return sum(path.stat().st_size for path in output.iterdir())


def _stop(pid: int) -> float:
    """Seconds until it ended after SIGTERM; 0 if it had ended before."""
    started = time.monotonic()
    try:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return 0.0
    return time.monotonic() - started
