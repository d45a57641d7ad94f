"""`python -m bench_parts.one_poll EXP COUNT`: so many polls in a row, each with its time and CPU, as JSON."""

import json
import os
import sys
import time

from evalmon_agent.experiment import settings
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.slurm.client import Slurm


def main() -> int:
    """Poll, and print what it took; the first poll, which catches up, is left out."""
    experiment = Experiment.at(sys.argv[1])
    wanted = settings.load(experiment.settings, environ=os.environ)
    observer = Observer(experiment, Slurm(os.environ), wanted, role="command")
    found = [_poll(observer) for _ in range(int(sys.argv[2]) + 1)][1:]
    print(json.dumps(found))
    return 0


def _poll(observer: Observer) -> dict[str, float]:
    before, began = os.times(), time.perf_counter()
    observer.observe_once(at_least_s=0)
    wall_s, after = time.perf_counter() - began, os.times()
    return {
        "wall_ms": wall_s * 1000,
        "cpu_ms": (after.user + after.system - before.user - before.system) * 1000,
        "commands_cpu_ms": (after.children_user + after.children_system - before.children_user - before.children_system)
        * 1000,
    }


if __name__ == "__main__":
    sys.exit(main())
