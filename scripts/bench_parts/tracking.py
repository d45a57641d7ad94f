"""Measures polls of thousands of evals on a local Slurm: while they are pending, running, and over."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from bench_parts.contenders import EVALMON
from bench_parts.counted import Call, Counted, by_name
from bench_parts.sidecar_watch import Mark, SidecarWatch

_POLL_S = 5
_SETTINGS = {"poll_interval": _POLL_S, "seff_retry_delay": 1, "sample_interval": 30}
_OWN_POLLS = 5
_IDLE_S = 60.0
_SCRIPT = """#!/bin/bash
#SBATCH --array=0-{last}
#SBATCH --time=30
#SBATCH --mem=50
#SBATCH --hold
#SBATCH --output=/dev/null
true
"""
# Stays when all others are over, so that the sidecar stays too.
_LAST_SCRIPT = """#!/bin/bash
#SBATCH --time=120
#SBATCH --mem=50
sleep 7200
"""


class Tracking:
    """One experiment of `evals` evals, in arrays of at most `array` tasks, and one more that stays."""

    def __init__(self, scratch: Path, environ: dict[str, str], *, evals: int, array: int, say: Callable[[str], None]):
        self._experiment = scratch / "study"
        self._counted = Counted(scratch / "wrappers", environ)
        self._sizes = [min(array, evals - start) for start in range(0, evals, array)]
        self._say = say
        self._watch = SidecarWatch(self._experiment)

    def measure(self, *, within_s: float) -> dict[str, object]:
        """All phases, one after the other."""
        deadline = time.monotonic() + within_s
        self._write()
        self._watch.start()
        try:
            submitted_s = self._timed("submit")
            self._say(f"submitted in {submitted_s:.1f} s; polls while all wait")
            phases = {"all wait": self._phase(lambda: None, idle_s=_IDLE_S)}
            began = time.monotonic()
            self._slurm("scontrol", "release", *self._jobs("r/eval/many"))
            phases["they run"] = self._phase(lambda: self._wait(self._all_but_one_over, deadline), idle_s=0)
            ran_s = time.monotonic() - began
            self._say(f"all over after {ran_s:.0f} s; polls while nothing happens")
            phases["all but one over"] = self._phase(lambda: None, idle_s=_IDLE_S)
            ended_s = self._end(deadline)
        finally:
            self._watch.stop()
            self._slurm("scancel", "-f", *self._jobs(""))
        whole = self._whole(submitted_s, ran_s, ended_s)
        return {"phases": phases, "whole": {key: {"": value} for key, value in whole.items()}}

    def _write(self) -> None:
        for number, size in enumerate(self._sizes):
            _put(self._experiment / f"r/eval/many_epoch{number}/cell.slurm", _SCRIPT.format(last=size - 1))
        _put(self._experiment / "r/eval/last_epoch0/cell.slurm", _LAST_SCRIPT)
        _put(self._experiment / "evalmon.yaml", json.dumps(_SETTINGS))

    def _phase(self, work: Callable[[], None], *, idle_s: float) -> dict[str, object]:
        """The cost of the sidecar's polls meanwhile, and of one poll afterwards."""
        self._wait(lambda: self._watch.mark() is not None, time.monotonic() + 60)
        before, began = self._watch.mark(), time.time()
        work()
        time.sleep(idle_s)
        after, ended = self._watch.mark(), time.time()
        calls = [call for call in self._counted.calls() if began <= call.at < ended]
        return {**_of_sidecar(before, after, calls), **self._own_polls()}

    def _own_polls(self) -> dict[str, object]:
        words = [sys.executable, "-m", "bench_parts.one_poll", str(self._experiment), str(_OWN_POLLS + 1)]
        done = subprocess.run(words, env=self._counted.environ, capture_output=True, text=True, check=True)
        polls = json.loads(done.stdout)
        return {f"a_poll_{key}": round(median(poll[key] for poll in polls[1:])) for key in polls[0]}

    def _end(self, deadline: float) -> float:
        """Cancel the eval that stays; returns the seconds until the summary is complete."""
        state = self._json("state.json")
        began = time.monotonic()
        self._slurm("scancel", state["evals"]["r/last/epoch0"]["job_id"])
        self._wait(lambda: self._json("summary.json").get("complete"), deadline)
        return time.monotonic() - began

    def _whole(self, submitted_s: float, ran_s: float, ended_s: float) -> dict[str, object]:
        calls = self._counted.calls()
        sizes = {path.name: path.stat().st_size for path in (self._experiment / "evalmon").iterdir() if path.is_file()}
        summary = self._json("summary.json")
        return {
            "evals": sum(self._sizes) + 1,
            "counts": " ".join(f"{number} {state}" for state, number in summary["counts"].items()),
            "submit_s": round(submitted_s, 1),
            "ran_s": round(ran_s),
            "summary_after_s": round(ended_s, 1),
            "status_s": round(self._timed("status"), 2),
            "sidecar_peak_pss_mib": round(self._watch.peak_pss_mib, 1),
            "most_ids_per_sacct": max((call.ids for call in calls if call.name == "sacct"), default=0),
            **{f"{name}_bytes": sizes[name] for name in ("state.json", "monitor.log", "summary.json")},
        }

    def _all_but_one_over(self) -> bool:
        evals = self._json("state.json").get("evals", {})
        return sum(not ev["final"] for ev in evals.values()) == 1

    def _wait(self, condition: Callable[[], object], deadline: float) -> None:
        while not condition():
            if time.monotonic() > deadline:
                raise SystemExit("bench: it took too long; give it more with --within")
            time.sleep(1)

    def _timed(self, verb: str) -> float:
        began = time.monotonic()
        words = [str(EVALMON), verb, str(self._experiment)]
        subprocess.run(words, env=self._counted.environ, capture_output=True, text=True, check=False)
        return time.monotonic() - began

    def _jobs(self, below: str) -> list[str]:
        """The jobs submitted from there, arrays once; an impossible id if there are none."""
        listed = self._slurm("squeue", "-a", "-h", "-o", "%F|%Z").stdout.splitlines()
        job_ids = {line.split("|")[0] for line in listed if str(self._experiment / below) in line}
        return sorted(job_ids) or ["0"]

    def _slurm(self, *argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, env=self._counted.environ, capture_output=True, text=True, check=False)

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self._experiment / "evalmon" / name).read_text())
        except FileNotFoundError:
            return {}


def _of_sidecar(before: Mark | None, after: Mark | None, calls: list[Call]) -> dict[str, object]:
    counts = by_name(calls)
    if before is None or after is None or after.polls == before.polls:
        return {"polls": 0}
    polls = after.polls - before.polls
    return {
        "polls": polls,
        "cpu_ms_per_poll": round((after.cpu_s - before.cpu_s) * 1000 / polls),
        "commands_cpu_ms_per_poll": round((after.commands_cpu_s - before.commands_cpu_s) * 1000 / polls),
        "squeue_per_poll": round(counts.get("squeue", 0) / polls, 2),
        "sacct": counts.get("sacct", 0),
        "ids_per_sacct": round(sum(c.ids for c in calls if c.name == "sacct") / max(counts.get("sacct", 0), 1)),
    }


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
