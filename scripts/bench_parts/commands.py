"""Measures what a wrapper adds to a command's time, CPU, memory and start."""

import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from bench_parts.contenders import Contender
from bench_parts.processes import Ended, run_to_the_end


def measure_in_turns(commands: list[Contender], rounds: int) -> dict[str, dict[str, object]]:
    """Each once per round (A B C A B C ...), so that other load affects all equally."""
    runs: dict[str, list[Ended]] = defaultdict(list)
    for number in range(rounds + 1):
        for command in commands:
            ended = run_to_the_end(command.words, command.environment)
            if number > 0:  # the first round fills caches
                runs[command.name].append(ended)
    return {command.name: _summary(runs[command.name], command.status) for command in commands}


def measure_starts(contenders: list[Contender], rounds: int) -> dict[str, dict[str, object]]:
    """Milliseconds from the start of the contender until its command runs."""
    delays_ms: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + 1):
        for contender in contenders:
            out = Path(contender.environment["HOME"]) / "date"
            started_ns = time.time_ns()
            run_to_the_end([*contender.words, "date", "+%s%N"], contender.environment, stdout=out)
            if number > 0:
                delays_ms[contender.name].append((int(out.read_text()) - started_ns) / 1e6)
    return {name: {"start_ms": spread(values)} for name, values in delays_ms.items()}


def measure_long(contenders: list[Contender], seconds: float) -> dict[str, dict[str, object]]:
    """One long command each: its CPU and memory are those of its companions."""
    figures: dict[str, dict[str, object]] = {}
    for contender in contenders:
        ended = run_to_the_end([*contender.words, "sleep", str(seconds)], contender.environment, has_memory=True)
        figures[contender.name] = {
            "status": ended.status,
            "cpu_s": round(ended.cpu_s, 4),
            "added_s": round(ended.wall_s - seconds, 4),
            "peak_pss_mib": round(ended.peak_pss_mib or 0, 1),
            "peak_uss_mib": round(ended.peak_uss_mib or 0, 1),
            "processes": ended.processes,
        }
    return figures


def spread(values: list[float]) -> dict[str, float]:
    """Median, minimum and maximum."""
    return {"median": round(median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def _summary(ended: list[Ended], expected: int) -> dict[str, object]:
    return {
        "runs": len(ended),
        "failed": sum(run.status != expected for run in ended),
        "wall_ms": spread([run.wall_s * 1000 for run in ended]),
        "gone_ms": spread([run.gone_s * 1000 for run in ended]),
        "cpu_ms": spread([run.cpu_s * 1000 for run in ended]),
    }
