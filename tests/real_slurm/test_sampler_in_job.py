"""Tests the sampler inside real jobs, with real memory limits and cgroups."""

from __future__ import annotations

import csv
import json
import shlex
import sys
import time
from pathlib import Path

import pytest

from nvml_standin.world import World
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
    """The sampler's part of the job's report, and its notes."""
    job = exp.job(name)
    report = json.loads((exp.ours / "jobs" / f"{job}.json").read_text())
    (attempt,) = report["attempts"]
    return attempt["sampler"], attempt["notes"]


def host_rows(exp: Exp, folder: str, name: str = "host_metrics.csv") -> list[dict[str, str]]:
    path = Path(exp.root / folder / name)
    return list(csv.DictReader(path.read_text().splitlines(), skipinitialspace=True))


@pytest.mark.survives("F25")
def submit_with_gpus(exp: Exp, world: World, cell: str, body: str, *, header: str) -> str:
    """A script that monitors itself; the variables are set in it, for without a gres Slurm unsets them."""
    variables = world.environment({}, CUDA_VISIBLE_DEVICES="0,1")
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
    hook = f'eval "$({sys.executable} -m evalmon_agent hook --name r1/gpu/epoch0 --output-dir "$PWD")"\n'
    path = exp.script("r1", cell, exports + hook + body, header=header, name="own.sh")
    return exp.cluster.run("sbatch", "--parsable", path.name, cwd=str(path.parent)).stdout.strip()


def test_an_eval_that_uses_all_but_40_mib_ends_as_without_evalmon(exp: Exp, world: World) -> None:
    exp.settings(sample_interval=1)
    on_gpus = submit_with_gpus(exp, world, "on_gpus_epoch0", EATS.format(after_s=2, for_s=4), header=HEADER)
    exp.script("r1", "at_once_epoch0", EATS.format(after_s=0, for_s=2), header=HEADER)
    exp.script("r1", "later_epoch0", EATS.format(after_s=3, for_s=7), header=HEADER)
    assert exp.submit("--mode", "dependency").returncode == 0
    exp.wait_complete()
    for name in ("r1/at_once/epoch0", "r1/later/epoch0"):
        assert exp.cluster.sacct(exp.job(name), "State", "ExitCode") == [["FAILED", "3:0"]]
    wait_for(lambda: exp.cluster.sacct(on_gpus, "State", "ExitCode") == [["FAILED", "3:0"]], 30)
    assert (exp.root / "r1/eval/on_gpus_epoch0/gpu_metrics.csv").exists(), "NVML was loaded"
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


def test_the_gpus_figures_are_in_the_summary(exp: Exp, world: World) -> None:
    world.epoch = time.time()
    world.gpus[0].power_w = 200
    world.write()
    busy = f"sed -i 's/^utilization .*/utilization 80/' {world.control}; sleep 5\n"
    job = submit_with_gpus(exp, world, "gpu_epoch0", busy, header=HEADER)
    wait_for(lambda: exp.cluster.sacct(job, "State") == [["COMPLETED"]], 60)
    wait_for(lambda: exp.evalmon("report", str(exp.root)).returncode == 0, 30, exp.log)
    gpu = exp.evals()["r1/gpu/epoch0"]["gpu"]
    assert (gpu["count"], gpu["unused_count"], gpu["memory_peak_bytes"]) == (2, 0, 2 * 3984 << 20)
    assert 37 < gpu["utilization_mean_pct"] <= gpu["utilization_max_pct"] <= 80
    assert gpu["power_mean_w"] == pytest.approx(200 + 180.4, rel=0.05)
    assert gpu["energy_j"] == pytest.approx(5 * 380.4, rel=0.4)
    assert (gpu["samples"], gpu["samples_expected"]) == (2, 2)  # at once, and at the end
    assert (gpu["longest_idle_s"], gpu["throttled_fraction"], gpu["near_power_cap_fraction"]) == (0, 0, 0)
    assert 0 <= gpu["first_use_s"] < 5
    page = (exp.ours / "summary.md").read_text()
    assert f"| {gpu['samples']} of {gpu['samples_expected']} |" in page


def test_each_node_of_a_job_has_one_sampler_with_its_own_files(exp: Exp) -> None:
    exp.settings(sample_interval=1)
    command = f"{sys.executable} -m evalmon_agent run --sample-interval 1 --output-dir $EVALMON_OUTPUT_DIR -- sleep 2.5"
    exp.script("r1", "wide_epoch0", f"srun -N2 -n4 {command}\n", header=HEADER + "#SBATCH -N2\n#SBATCH --ntasks=4\n")
    assert exp.submit("--mode", "dependency").returncode == 0
    exp.wait_complete()
    assert exp.evals()["r1/wide/epoch0"]["state"] == "COMPLETED", exp.outputs()
    folder = exp.root / "r1/eval/wide_epoch0"
    first, other = sorted(path.name for path in folder.glob("host_metrics*.csv"))
    assert first == "host_metrics.csv"
    node = other.removeprefix("host_metrics.").removesuffix(".csv")
    assert node in exp.cluster.run("sinfo", "-hN", "-o", "%N").stdout.split()
    for name in (first, other):
        stamps = [row["timestamp_unix [s]"] for row in host_rows(exp, "r1/eval/wide_epoch0", name)]
        assert len(stamps) >= 3
        assert stamps == sorted(set(stamps))
