"""Tests trouble of the sampler and around it: the eval ends as without it, and the reason is recorded."""

import os
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path

import pytest
from in_a_job import RUN, Experiment, session_of, started
from sampled import rows_of, sample_for

import as_root
from as_root import needs_root
from faults import wait_until
from nvml_standin import world as errors
from nvml_standin.world import World

FULL = pytest.mark.full
VERSION_MISMATCH = 25
COMMAND = "echo out; sleep {seconds}; exit 6"


def in_job(experiment: Experiment, world: World, **more: str) -> dict[str, str]:
    job = {"EVALMON_OUTPUT_DIR": str(experiment.directory / "out"), "SLURM_GPUS_ON_NODE": str(len(world.gpus))}
    return world.environment(experiment.environ(), **(job | more))


def run_in_namespace(
    experiment: Experiment, environment: dict[str, str], mounts: str, *arguments: str, seconds: float = 0.5
) -> dict[str, object]:
    """The sampler's part of the report of a `run` in its own mount namespace, prepared by `mounts`."""
    words = [*RUN, "--sample-interval", "1", "--", "sh", "-c", COMMAND.format(seconds=seconds)]
    argv = as_root.in_namespace(mounts, *arguments, words=words, environ=environment)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (6, "out\n", "")
    (attempt,) = experiment.report()["attempts"]
    return {**attempt["sampler"], "notes": attempt["notes"]}


FULL_DISK = 'mount -t tmpfs -o size=16k none "$1"; chown $ME "$1"; ! cat /dev/zero >"$1/ballast" 2>/dev/null'


@needs_root
@pytest.mark.survives("F2")
def test_on_a_full_disk_rows_are_dropped_and_counted_and_the_eval_is_unaffected(
    experiment: Experiment, world: World
) -> None:
    output = experiment.directory / "out"
    output.mkdir()
    said = run_in_namespace(experiment, in_job(experiment, world), FULL_DISK, str(output), seconds=1.4)
    assert (said["gpu_rows"], said["host_rows"]) == (0, 0)
    assert int(str(said["dropped_rows"])) >= 6
    full = "No space left on device"
    assert said["notes"] == [f"sampler: host_metrics.csv: {full}", f"sampler: gpu_metrics.csv: {full}"]


@FULL
@needs_root
@pytest.mark.survives("F2")
def test_rows_are_written_again_once_there_is_room(experiment: Experiment, world: World) -> None:
    """The files are opened again 30 s after they failed."""
    output = experiment.directory / "out"
    output.mkdir()
    mounts = f'{FULL_DISK}; (sleep 5; rm -f "$1/ballast"; sleep 38; cp "$1"/*.csv "$2") >/dev/null 2>&1 &'
    words = (str(output), str(experiment.directory))
    said = run_in_namespace(experiment, in_job(experiment, world), mounts + " :", *words, seconds=46)
    assert int(str(said["gpu_rows"])) >= 10
    assert int(str(said["dropped_rows"])) >= 60
    stamps = [float(row["timestamp_unix [s]"]) for row in rows_of(experiment.directory / "gpu_metrics.csv")]
    assert stamps == sorted(stamps)


DEVICES = (
    'mount -t tmpfs none "$1"; for name in null zero urandom tty; do touch "$1/$name"; mount --bind "/dev/$name" '
    '"$1/$name"; done; touch "$1/kfd"; mount --rbind "$1" /dev'
)


@needs_root
@pytest.mark.survives("F21")
def test_amd_gpus_are_named_in_the_report(experiment: Experiment, world: World) -> None:
    environment = in_job(experiment, world, LD_LIBRARY_PATH="/nowhere", PATH="/usr/bin:/bin", ROCR_VISIBLE_DEVICES="0")
    devices = experiment.directory / "dev"
    devices.mkdir()
    said = run_in_namespace(experiment, environment, DEVICES, str(devices))
    assert str(said["no_gpu_file"]).endswith(
        "NVML Shared Library Not Found; this node has AMD GPUs (/dev/kfd), which are not sampled: only NVIDIA's are"
    )
    assert (said["notes"], said["gpu_rows"]) == ([], 0)
    assert said["host_rows"]


@needs_root
@pytest.mark.survives("F21")
def test_gpus_denied_by_the_jobs_cgroup_are_distinguished_from_no_gpus(experiment: Experiment, world: World) -> None:
    world.gpus = []
    world.write()
    driver = experiment.directory / "driver"
    for gpu in ("0000:41:00.0", "0000:c1:00.0"):
        (driver / "nvidia" / "gpus" / gpu).mkdir(parents=True)
    environment = in_job(experiment, world, SLURM_GPUS_ON_NODE="2")
    said = run_in_namespace(experiment, environment, 'mount --bind "$1" /proc/driver', str(driver))
    assert said["no_gpu_file"] == (
        "NVML shows no GPU, though this node has 2: the job may not use them (device cgroup)"
    )


@pytest.mark.survives("F21")
def test_memory_that_nvml_does_not_support_is_not_available(world: World, tmp_path: Path) -> None:
    """As of GPUs that share the host's memory; and a driver that refuses version 2 has version 1."""
    world.refuse("nvmlDeviceGetMemoryInfo_v2", errors.NOT_SUPPORTED, gpu=0)
    world.refuse("nvmlDeviceGetMemoryInfo", errors.NOT_SUPPORTED, gpu=0)
    world.refuse("nvmlDeviceGetMemoryInfo_v2", VERSION_MISMATCH, gpu=1)
    _, rows = sample_for(world, tmp_path / "out", 0.5)
    memory = [(row["memory.used [MiB]"], row["memory.total [MiB]"]) for row in rows[:2]]
    assert memory == [("[N/A]", "[N/A]"), ("4535 MiB", "81559 MiB")]
    assert [row["utilization.gpu [%]"] for row in rows[:2]] == ["37 %", "37 %"]


@FULL
@pytest.mark.survives("F21")
def test_a_failed_gpm_sample_costs_one_window_and_no_row(world: World, tmp_path: Path) -> None:
    world.refuse("nvmlGpmSampleGet", errors.UNKNOWN, gpu=0, first=2, last=2)
    _, rows = sample_for(world, tmp_path / "out", 4.4)
    activity = [row["gpm.sm_activity.window_mean [%]"] for row in rows if row["index"] == "0"]
    assert activity[:5] == ["[N/A]", "[N/A]", "[N/A]", "30.0 %", "30.0 %"]


def test_missed_ticks_are_counted_and_not_repeated(experiment: Experiment, world: World) -> None:
    argv = [*RUN, "--sample-interval", "1", "--", "sleep", "7"]
    output = experiment.directory / "out" / "gpu_metrics.csv"
    with started(argv, in_job(experiment, world)) as run:
        wait_until(lambda: output.exists() and output.read_text().count("\n") >= 3)
        (sampler,) = [pid for pid in session_of(run.pid) if pid != run.pid and _is_python(pid)]
        os.kill(sampler, signal.SIGSTOP)
        time.sleep(3.2)
        os.kill(sampler, signal.SIGCONT)
        assert run.wait(timeout=20) == 0
    said = experiment.report()["attempts"][0]["sampler"]
    assert said["missed_ticks"] in {2, 3}
    stamps = [float(row["timestamp_unix [s]"]) for row in rows_of(output)][::2]
    assert all(b - a > 0.4 for a, b in pairwise(stamps))


def _is_python(pid: int) -> bool:
    return b"evalmon_agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
