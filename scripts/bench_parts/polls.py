"""Measures polls of one long-lived observer with thousands of evals, by how many evals changed before the poll."""

import json
import sys
from pathlib import Path
from statistics import median

from bench_parts.processes import run_to_the_end
from bench_parts.synthetic import Synthetic
from bench_parts.targets import Target, as_rows

_QUIET_POLLS, _CHANGED, _REPEATS = 5, (100, 1000), 3
_QUIET_MS, _BASE_MS, _PER_CHANGED_MS, _PEAK_MIB = 100.0, 10.0, 0.2, 100.0


def measure(scratch: Path, *, evals: int, pending: int) -> dict[str, object]:
    """Polls of `evals` evals: `pending` of them are pending at first, the others run; then 100 and 1,000 more start."""
    synthetic = Synthetic(scratch, evals)
    running = evals - pending
    synthetic.show(running)
    names = ["first poll", *["nothing changed"] * _QUIET_POLLS]
    queues: list[str] = []
    for started in [count for count in _CHANGED for _ in range(_REPEATS)]:
        running += started
        names.append(f"{started} changed")
        queues.append(str(scratch / f"queue-{running}"))
        Path(queues[-1]).write_text(synthetic.queue(running))
    out = scratch / "polls.json"
    words = [str(synthetic.experiment), str(1 + _QUIET_POLLS), str(synthetic.slurm.directory / "squeue.out"), *queues]
    argv = [sys.executable, "-m", "bench_parts.one_poll", *words]
    ended = run_to_the_end(argv, synthetic.python_environ, stdout=out)
    if ended.status != 0:
        raise SystemExit(f"bench: this ended with {ended.status}: {' '.join(argv)}")
    polls = list(zip(names, json.loads(out.read_text()), strict=True))
    rows = {name: _median([figures for of, figures in polls if of == name]) for name in dict.fromkeys(names)}
    state = json.loads((synthetic.experiment / "evalmon/state.json").read_text())
    are_running = sum(ev["state"] == "RUNNING" for ev in state["evals"].values())
    whole = {"evals": evals, "running": running, "running_in_state": are_running}
    targets = [_target(name, row["cpu_ms"]) for name, row in rows.items() if name != "first poll"]
    peak_mib = max(row["peak_rss_mib"] for row in rows.values())
    targets.append(Target("the observer: peak RSS, of which its PSS is a part", peak_mib, _PEAK_MIB, "MiB"))
    return {"polls": rows, "whole": {key: {"": value} for key, value in whole.items()}, "targets": as_rows(targets)}


def _median(polls: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(median(poll[key] for poll in polls), 1) for key in polls[0]}


def _target(name: str, cpu_ms: float) -> Target:
    words = name.split()
    at_most_ms = _BASE_MS + _PER_CHANGED_MS * int(words[0]) if words[0].isdigit() else _QUIET_MS
    return Target(f"a poll, {name}: CPU", cpu_ms, at_most_ms, "ms")
