"""`python -m bench_parts.one_poll EXP COUNT [QUEUE NEXT...]`: polls of one observer, what each took, as JSON.

After COUNT polls comes one for each NEXT, a file that takes QUEUE's place before it.
"""

import json
import os
import re
import shutil
import sys
import time
from pathlib import Path

from evalmon_agent.experiment import settings_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.monitor.finish import PolledMetrics
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.session import Session
from evalmon_agent.slurm.client import Slurm


def main() -> int:
    """Poll, and print how long each poll took; the first one catches up."""
    experiment, count, *files = sys.argv[1:]
    place = Experiment.at(experiment)
    settings = settings_file.load(place.settings, environ=os.environ)
    observer = Observer(Session(place, settings, Slurm(os.environ), os.environ), role="command")
    metrics = PolledMetrics()
    polls = [_poll(observer, metrics) for _ in range(int(count))]
    for after in files[1:]:
        shutil.copy(after, f"{files[0]}.new")
        os.replace(f"{files[0]}.new", files[0])
        polls.append(_poll(observer, metrics))
    print(json.dumps(polls))
    return 0


def _poll(observer: Observer, metrics: PolledMetrics) -> dict[str, float]:
    """As a sidecar polls: evalmon.prom is written as well."""
    before, began, own_s = os.times(), time.perf_counter(), time.process_time()
    metrics.write(observer, observer.observe_once(at_least_s=0).state)
    wall_s, own_s, after = time.perf_counter() - began, time.process_time() - own_s, os.times()
    return {
        "wall_ms": wall_s * 1000,
        "cpu_ms": own_s * 1000,
        "commands_cpu_ms": (after.children_user + after.children_system - before.children_user - before.children_system)
        * 1000,
        "peak_rss_mib": _peak_rss_kib() / 1024,
    }


def _peak_rss_kib() -> int:
    """The peak memory of this process so far, including shared memory."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1])


if __name__ == "__main__":
    sys.exit(main())
