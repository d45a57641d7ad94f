"""The sampler alone: when its first row is there, and what a tick and an hour cost."""

import os
import signal
import time
from pathlib import Path

from bench_parts.contenders import EVALMON, Place
from bench_parts.processes import cpu_of, memory_of, spawn

_TICKS_PER_HOUR = 120  # one per 30 s, the default
_SETTLED_AFTER_S = 3.0
_FIRST_ROW_WITHIN_S = 30.0


def measure(scratch: Path, *, gpus: tuple[int, ...], seconds: float, is_real: bool) -> dict[str, dict[str, object]]:
    """A tick a second for `seconds` with each number of stand-in GPUs, or with those of this machine."""
    if is_real:
        return {"real": _measure(Place(scratch / "ticks", gpus=0, is_real=True), seconds)}
    return {
        f"{count} GPU": _measure(Place(scratch / f"ticks-{count}", gpus=count, is_real=False), seconds)
        for count in gpus
    }


def _measure(place: Place, seconds: float) -> dict[str, object]:
    environment = place.environment("sampler")
    output = Path(environment["HOME"]) / "output"
    metrics = output / "gpu_metrics.csv"
    started = time.monotonic()
    pid = spawn([str(EVALMON), "sample", "--output-dir", str(output), "--interval", "1"], environment)
    try:
        while not _rows(metrics):
            if os.waitpid(pid, os.WNOHANG)[0] or time.monotonic() - started > _FIRST_ROW_WITHIN_S:
                return {"error": "no row was written"}
            time.sleep(0.001)
        first_row_s = time.monotonic() - started
        time.sleep(_SETTLED_AFTER_S)
        before = cpu_of(pid), _rows(metrics), _bytes(output)
        time.sleep(seconds)
        after = cpu_of(pid), _rows(metrics), _bytes(output)
        pss_mib, uss_mib = memory_of(pid)
        return {
            **_per_tick(before, after, first_rows=len(_first_tick(metrics))),
            "first_row_ms": round(first_row_s * 1000, 1),
            "cpu_until_settled_ms": round(before[0] * 1000, 1),
            "pss_mib": round(pss_mib, 1),
            "uss_mib": round(uss_mib, 1),
            "stop_ms": round(_stop(pid) * 1000, 1),
        }
    finally:
        _stop(pid)


def _per_tick(before: tuple[float, int, int], after: tuple[float, int, int], *, first_rows: int) -> dict[str, object]:
    cpu_s, rows, size = (late - early for late, early in zip(after, before, strict=True))
    ticks = rows / max(first_rows, 1)
    if not ticks:
        return {"error": "no ticks"}
    return {
        "ticks": ticks,
        "cpu_ms_per_tick": round(cpu_s * 1000 / ticks, 3),
        "cpu_s_per_hour": round(cpu_s / ticks * _TICKS_PER_HOUR, 3),
        "bytes_per_hour": round(size / ticks * _TICKS_PER_HOUR),
    }


def _rows(metrics: Path) -> int:
    return max(metrics.read_bytes().count(b"\n") - 1, 0) if metrics.exists() else 0


def _first_tick(metrics: Path) -> set[str]:
    """The different GPUs in the file, by index and uuid (columns 8 and 9)."""
    return {", ".join(line.split(", ")[7:9]) for line in metrics.read_text().splitlines()[1:]}


def _bytes(output: Path) -> int:
    return sum(path.stat().st_size for path in output.iterdir())


def _stop(pid: int) -> float:
    """Seconds that it took to end after SIGTERM; 0 if it had ended before."""
    started = time.monotonic()
    try:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        return 0.0
    return time.monotonic() - started
