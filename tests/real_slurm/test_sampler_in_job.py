"""The sampler inside real jobs: memory limits are real here, and so are the job's cgroups."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from real_slurm.cluster import Exp, wait_for

pytestmark = pytest.mark.slurm

HEADER = "#!/bin/bash\n#SBATCH --time=5\n#SBATCH --mem=200\n"

# Uses all but 40 MiB of 200, at once or after a while, touches every page, and holds on for a moment.
EATS = """exec python3 -c '
import time
time.sleep({after_s})
own = int(open("/proc/self/statm").read().split()[1]) * 4096
hoard = b"x" * ((200 - 40) * 2**20 - own)
time.sleep({for_s})
raise SystemExit(3)
'
"""


def sampler_of(exp: Exp, name: str) -> tuple[dict[str, object], list[str]]:
    """What the job's report says of its sampler, and its notes."""
    job = exp.job(name)
    report = json.loads((exp.ours / "jobs" / f"{job}.json").read_text())
    (attempt,) = report["attempts"]
    return attempt["sampler"], attempt["notes"]


def host_rows(exp: Exp, folder: str) -> list[dict[str, str]]:
    path = Path(exp.root / folder / "host_metrics.csv")
    return list(csv.DictReader(path.read_text().splitlines(), skipinitialspace=True))


@pytest.mark.survives("F25")
def test_an_eval_that_needs_all_but_40_mib_ends_as_without_us(exp: Exp) -> None:
    exp.settings(sample_interval=1)
    exp.script("r1", "at_once_epoch0", EATS.format(after_s=0, for_s=2), header=HEADER)
    exp.script("r1", "later_epoch0", EATS.format(after_s=3, for_s=7), header=HEADER)
    assert exp.submit("--mode", "dependency").returncode == 0
    exp.wait_complete()
    for name in ("r1/at_once/epoch0", "r1/later/epoch0"):
        assert exp.cluster.sacct(exp.job(name), "State", "ExitCode") == [["FAILED", "3:0"]]
    said, notes = sampler_of(exp, "r1/later/epoch0")
    assert "MiB of memory left, less than 64" in str(said["ended"])
    assert notes == [f"sampler: {said['ended']}"]


def test_the_hosts_figures_are_those_of_the_jobs_cgroup(exp: Exp) -> None:
    exp.settings(sample_interval=1)
    body = 'python3 -c \'x = b"x" * 2**25; exec("while True: pass")\' & sleep 4.5; kill %1; exit 0\n'
    exp.script("r1", "busy_epoch0", body, header=HEADER)
    assert exp.submit("--mode", "dependency").returncode == 0
    exp.wait_complete()
    said, notes = sampler_of(exp, "r1/busy/epoch0")
    assert (str(said["host_source"])[:6], notes, said["ended"]) == ("cgroup", [], "SIGTERM")
    assert said["no_gpu_file"] == "no GPU is the job's: Slurm set no GPU variable"
    rows = host_rows(exp, "r1/eval/busy_epoch0")
    assert len(rows) >= 4
    last = rows[3]
    assert last["memory.limit [MiB]"] == "200 MiB"
    assert 32 <= int(last["memory.used [MiB]"].removesuffix(" MiB")) < 200
    assert 0.1 <= float(last["cpu.used [cores]"].removesuffix(" cores")) <= 2
    assert int(last["processes"]) >= 4
    wait_for(lambda: exp.cluster.sacct(exp.job("r1/busy/epoch0"), "State") == [["COMPLETED"]], 20)
