"""Tests the sampler beside a command, with the real nvidia-ml-py and simulated GPUs."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from in_a_job import RUN, Experiment, environ, session_of, started, stat_of
from sampled import SAMPLE, UUIDS, rows_of, sample_for

from evalmon_agent.words.csv_columns import NVIDIA_SMI_COLUMNS, GpuColumn, HostColumn
from faults import wait_until
from nvml_standin import world as errors
from nvml_standin.build import OLD_DRIVER, build
from nvml_standin.world import World

Rows = list[dict[str, str]]
FULL = pytest.mark.full


def in_job(experiment: Experiment, world: World, **more: str) -> dict[str, str]:
    job = {"EVALMON_OUTPUT_DIR": str(experiment.directory / "out"), "SLURM_GPUS_ON_NODE": "2"}
    return world.environment(experiment.environ(), **(job | more))


def run_in_job(
    experiment: Experiment, world: World, seconds: float = 1.6, interval_s: int = 1, **more: str
) -> tuple[dict[str, object], list[str], Rows]:
    """The sampler's part of the report, its notes, and the GPUs' rows."""
    argv = [*RUN, "--sample-interval", f"{interval_s}", "--", "sh", "-c", f"echo out; sleep {seconds}; exit 6"]
    environment = in_job(experiment, world, **more)
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (6, "out\n", "")
    (attempt,) = experiment.report()["attempts"]
    path = experiment.directory / "out" / "gpu_metrics.csv"
    return attempt["sampler"], attempt["notes"], rows_of(path) if path.exists() else []


def test_two_gpus_are_sampled_from_start_to_end(world: World, tmp_path: Path) -> None:
    done, rows = sample_for(world, tmp_path / "out", 2.5)
    assert (done.returncode, done.stdout) == (0, "")
    assert [row["uuid"] for row in rows[:2]] == UUIDS
    assert len(rows) in {
        6,
        8,
        10,
    }  # At 0, 1 and 2 s, and what a busy machine adds; at the end, if that is a second later.
    first, last = rows[0], rows[-1]
    smi = [first[column.header] for column in NVIDIA_SMI_COLUMNS[1:]]
    assert smi == ["37 %", "12 %", "3984 MiB", "81559 MiB", "180.40 W", "44"]
    assert first["utilization.gpu.window_mean [%]"] == "[N/A]"
    assert last["utilization.gpu.window_mean [%]"] == "37.0 %"
    mean_w = float(last["power.draw.window_mean [W]"].removesuffix(" W"))
    assert mean_w == pytest.approx(180.4, rel=0.02)
    extras = ["clocks.current.sm [MHz]", "enforced.power.limit [W]", "gpm.sm_activity.window_mean [%]"]
    assert [last[name] for name in extras] == ["1980 MHz", "700.00 W", "30.0 %"]
    assert {row["timestamp_unix [s]"] for row in rows[:2]} == {first["timestamp_unix [s]"]}
    host = rows_of(tmp_path / "out" / "host_metrics.csv")
    assert len(host) == len(rows) / 2


@FULL
def test_the_window_mean_is_closer_to_the_truth_than_the_instant_value(world: World, tmp_path: Path) -> None:
    world.gpus[0].utilization = "0:0 0.2:100 0.6:0 every=1"
    world.write()
    _, rows = sample_for(world, tmp_path / "out", 3.2)
    means = [
        float(row["utilization.gpu.window_mean [%]"].removesuffix(" %")) for row in rows[2:] if row["index"] == "0"
    ]
    assert means == pytest.approx([40] * len(means), abs=20)
    assert {row["utilization.gpu [%]"] for row in rows if row["index"] == "0"} <= {f"{n} %" for n in range(101)}


def test_the_report_says_what_the_sampler_did(experiment: Experiment, world: World) -> None:
    said, notes, rows = run_in_job(experiment, world, 2.6, interval_s=2, CUDA_VISIBLE_DEVICES="1")
    assert notes == []
    assert {row["uuid"] for row in rows} == {UUIDS[1]}
    expected = {
        "gpus": 1,
        "interval_ms": 2000,
        "gpu_source": "nvml",
        "ended": "SIGTERM",
        "no_gpu_file": "",
        "gpu_gaps": 0,
        "caught": 0,
    }
    assert {name: said.get(name) for name in expected} == expected
    assert said["gpu_rows"] == len(rows)


@pytest.mark.survives("F21")
def test_instances_of_a_sliced_gpu_have_their_own_memory_and_the_gpus_power(world: World, tmp_path: Path) -> None:
    world.slice_up(1, 0, 2)
    world.gpus[1].instances[1].memory_used_mib = 2048
    world.gpus[1].instances[1].sm_active = 55
    world.gpus[1].power_w = 300
    world.write()
    _, rows = sample_for(world, tmp_path / "out", 1.4)
    assert [row["index"] for row in rows[:3]] == ["0", "1:0", "1:2"]
    slices = rows[1:3]
    assert [row["memory.used [MiB]"] for row in slices] == ["1024 MiB", "2048 MiB"]
    assert [row["memory.total [MiB]"] for row in slices] == ["40192 MiB"] * 2
    assert {row["utilization.gpu [%]"] for row in slices} == {"[N/A]"}
    assert {(row["power.draw [W]"], row["temperature.gpu"]) for row in slices} == {("300.00 W", "44")}
    last = rows[-1]
    assert (last["index"], last["energy.window [J]"], last["gpm.sm_activity.window_mean [%]"]) == (
        "1:2",
        "[N/A]",
        "55.0 %",
    )


@pytest.mark.survives("F21")
def test_a_job_with_one_instance_by_uuid_samples_only_that(world: World, tmp_path: Path) -> None:
    world.slice_up(0, 0, 3)
    uuid = world.gpus[0].instances[1].uuid
    _, rows = sample_for(world, tmp_path / "out", 0.5, CUDA_VISIBLE_DEVICES=uuid)
    assert {(row["index"], row["uuid"]) for row in rows} == {("0:3", uuid)}


@pytest.mark.parametrize(
    ("symbol", "column"),
    [
        ("nvmlDeviceGetUtilizationRates", "utilization.gpu [%]"),
        pytest.param("nvmlDeviceGetPowerUsage", "power.draw [W]", marks=FULL),
        ("nvmlDeviceGetSamples", "utilization.gpu.window_mean [%]"),
        pytest.param("nvmlDeviceGetTotalEnergyConsumption", "energy.window [J]", marks=FULL),
        pytest.param("nvmlDeviceGetEnforcedPowerLimit", "enforced.power.limit [W]", marks=FULL),
        pytest.param("nvmlDeviceGetClockInfo", "clocks.current.sm [MHz]", marks=FULL),
        ("nvmlGpmQueryDeviceSupport", "gpm.tensor_activity.window_mean [%]"),
    ],
)
@pytest.mark.survives("F21")
def test_values_that_a_gpu_lacks_are_not_available_and_the_others_are(
    world: World, tmp_path: Path, symbol: str, column: str
) -> None:
    world.refuse(symbol, errors.NOT_SUPPORTED, gpu=0)
    _, rows = sample_for(world, tmp_path / "out", 1.3)
    assert len(rows) >= 4
    assert {row[column] for row in rows if row["index"] == "0"} == {"[N/A]"}
    assert rows[-1][column] != "[N/A]"
    assert rows[0]["memory.used [MiB]"] == "3984 MiB"


@pytest.mark.survives("F21")
def test_values_without_permission_are_marked_so(world: World, tmp_path: Path) -> None:
    world.refuse("nvmlDeviceGetPowerUsage", errors.NO_PERMISSION)
    _, rows = sample_for(world, tmp_path / "out", 0.5)
    assert {row["power.draw [W]"] for row in rows} == {"[Insufficient Permissions]"}


@pytest.mark.survives("F21")
def test_an_old_driver_has_memory_of_version_1_and_no_gpm(world: World, tmp_path: Path) -> None:
    world.library = build(tmp_path / "old", without=OLD_DRIVER)
    _, rows = sample_for(world, tmp_path / "out", 1.3)
    assert rows[0]["memory.used [MiB]"] == "4535 MiB"
    assert rows[-1]["gpm.sm_activity.window_mean [%]"] == "[N/A]"
    assert rows[-1]["clocks_event_reasons.active"] == "0x0000000000000000"
    assert rows[-1]["temperature.gpu"] == "44"


@pytest.mark.parametrize(
    "symbol",
    [
        "nvmlDeviceGetSamples",
        pytest.param("nvmlDeviceGetTotalEnergyConsumption", marks=FULL),
        pytest.param("nvmlDeviceGetUtilizationRates", marks=FULL),
        pytest.param("nvmlDeviceGetMigMode", marks=FULL),
    ],
)
@pytest.mark.survives("F21")
def test_a_missing_driver_symbol_costs_only_its_figure(world: World, tmp_path: Path, symbol: str) -> None:
    world.library = build(tmp_path / "lib", without=[symbol])
    _, rows = sample_for(world, tmp_path / "out", 0.5)
    assert [row["temperature.gpu"] for row in rows[:2]] == ["44", "44"]


@pytest.mark.survives("F21")
def test_a_temporary_error_is_a_gap_without_a_row(experiment: Experiment, world: World) -> None:
    world.refuse("nvmlDeviceGetUtilizationRates", errors.UNKNOWN, gpu=0, first=1, last=1)
    said, notes, rows = run_in_job(experiment, world, 2.6, interval_s=2)
    assert [row["index"] for row in rows[:3]] == ["1", "0", "1"]
    assert said["gpu_gaps"] == 1
    assert notes == ["sampler: Unknown Error"]


@pytest.mark.survives("F21")
def test_a_lost_gpu_gets_one_row_that_says_so_and_the_other_is_sampled_on(experiment: Experiment, world: World) -> None:
    environment = in_job(experiment, world)
    output = experiment.directory / "out" / "gpu_metrics.csv"
    argv = [*RUN, "--sample-interval", "1", "--", "sleep", "3.5"]
    with started(argv, environment) as run:
        wait_until(lambda: output.exists() and output.read_text().count("\n") >= 3)
        world.lose(0)
        assert run.wait(timeout=20) == 0
    rows = rows_of(output)
    lost = [row for row in rows if row["utilization.gpu [%]"] == "[GPU is lost]"]
    assert [(row["index"], row["memory.used [MiB]"]) for row in lost] == [("0", "[GPU is lost]")]
    assert len([row for row in rows if row["index"] == "1"]) >= 4
    assert experiment.report()["attempts"][0]["sampler"]["caught"] == 0


LOST_AND_BACK = """
import sys
sys.path[:0] = sys.argv[1:]
from evalmon_agent.agent.sampling.gpu_sampler import Gpus
from evalmon_agent.agent.sampling.nvml import Nvml
nvml = Nvml()
gpus = Gpus(nvml, nvml.devices(), look_again_after_s=0.05)
while sys.stdin.readline():
    rows, troubles = gpus.sample()
    print(rows.decode().count("[GPU is lost]") // 16, rows.count(b"\\n"), troubles, flush=True)
"""


@pytest.mark.survives("F21")
def test_gpus_that_reappear_are_sampled_again(world: World) -> None:
    argv = [sys.executable, "-c", LOST_AND_BACK]
    with started(argv, world.environment(environ()), stdin=subprocess.PIPE) as process:

        def tick() -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return process.stdout.readline().strip()

        assert tick() == "0 2 []"
        world.lose(0)
        assert [tick(), tick()] == ["1 2 []", "0 1 []"]
        time.sleep(0.1)
        assert tick() == "0 1 []"
        world.lose(1)
        assert tick() == "1 1 []"
        world.find_again(0)
        world.find_again(1)
        time.sleep(0.1)
        assert [tick(), tick()] == ["0 2 []"] * 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (errors.LIB_RM_VERSION_MISMATCH, "RM has detected an NVML/RM version mismatch."),
        (errors.DRIVER_NOT_LOADED, "Driver Not Loaded"),
    ],
)
@pytest.mark.survives("F21")
def test_a_driver_that_does_not_work_is_given_as_the_reason_for_no_file(
    experiment: Experiment, world: World, error: int, expected: str
) -> None:
    world.refuse("nvmlInitWithFlags", error)
    said, notes, rows = run_in_job(experiment, world, PATH="/usr/bin:/bin")
    assert (rows, notes) == ([], [])
    assert expected in str(said["no_gpu_file"])
    assert said["host_rows"]


@pytest.mark.survives("F21")
def test_without_a_driver_there_is_no_gpu_file_and_the_reason_is_reported(experiment: Experiment, world: World) -> None:
    said, notes, rows = run_in_job(experiment, world, LD_LIBRARY_PATH="/nowhere", PATH="/usr/bin:/bin")
    assert (rows, notes) == ([], [])
    assert said["no_gpu_file"] == "NVML: NVML Shared Library Not Found"
    assert said["host_rows"]
    assert os.listdir(experiment.directory / "out") == ["host_metrics.csv"]


@pytest.mark.parametrize(
    "symbol",
    [
        pytest.param("nvmlInitWithFlags", marks=FULL),
        pytest.param("nvmlDeviceGetCount_v2", marks=FULL),
        "nvmlDeviceGetPowerUsage",
    ],
)
@pytest.mark.survives("F21")
def test_a_hanging_driver_delays_neither_the_host_metrics_nor_the_end(
    experiment: Experiment, world: World, symbol: str
) -> None:
    world.hang(symbol)
    before = time.monotonic()
    said, notes, rows = run_in_job(experiment, world, 3.4)
    assert time.monotonic() - before < 3.4 + 2
    assert rows == []
    assert int(str(said["host_rows"])) >= 3
    assert said["ended"] == "SIGTERM"
    assert notes == ["sampler: the GPU driver had not answered when the next sample was due"]


@FULL
@pytest.mark.survives("F21")
def test_a_slow_driver_causes_gaps_and_no_backlog(experiment: Experiment, world: World) -> None:
    world.delay("nvmlDeviceGetPowerUsage", 700)
    said, _, rows = run_in_job(experiment, world, 4.2)
    assert int(str(said["gpu_gaps"])) >= 1
    assert 2 <= len(rows) <= 6


def test_a_job_without_a_gpu_does_not_load_the_driver(experiment: Experiment, world: World) -> None:
    world.log = experiment.directory / "calls"
    world.write()
    said, notes, rows = run_in_job(experiment, world, SLURM_GPUS_ON_NODE="")
    assert (rows, notes, world.calls()) == ([], [], [])
    assert said["no_gpu_file"] == "no GPU is the job's: Slurm set no GPU variable"


def test_a_missing_output_directory_is_reported(experiment: Experiment) -> None:
    assert experiment.run("--", "true").returncode == 0
    (attempt,) = experiment.report()["attempts"]
    assert attempt["sampler"]["not_sampled"] == "neither --output-dir nor EVALMON_OUTPUT_DIR says where to"
    assert attempt["notes"] == []


def test_only_the_first_task_of_a_step_on_a_node_samples(experiment: Experiment, world: World) -> None:
    argv = [*RUN, "--", "true"]
    subprocess.run(argv, env=in_job(experiment, world, SLURM_LOCALID="1"), check=True, timeout=20)
    assert not (experiment.directory / "out").exists()


def test_another_node_has_its_own_files(experiment: Experiment, world: World) -> None:
    more = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURMD_NODENAME": "n2", "CUDA_VISIBLE_DEVICES": "0"}
    subprocess.run([*RUN, "--", "sleep", "0.5"], env=in_job(experiment, world, **more), check=True, timeout=20)
    assert sorted(os.listdir(experiment.directory / "out")) == ["gpu_metrics.n2.csv", "host_metrics.n2.csv"]


@pytest.mark.survives("F12")
def test_a_requeued_job_continues_the_same_files_after_a_torn_line(world: World, tmp_path: Path) -> None:
    sample_for(world, tmp_path / "out", 0.5)
    path = tmp_path / "out" / "gpu_metrics.csv"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    until_two_more_rows = 'n=0; until [ $(wc -l <"$0") -ge 5 ] || [ $n = 200 ]; do n=$((n + 1)); sleep 0.05; done'
    argv = [*RUN, "--output-dir", str(tmp_path / "out"), "--", "sh", "-c", until_two_more_rows, str(path)]
    subprocess.run(argv, env=world.environment(environ()), check=True, capture_output=True, timeout=20)
    text = path.read_bytes()
    assert text.startswith(whole[:-30] + b"\n")
    assert text.count(GpuColumn.first_line()) == 1
    assert len(text.splitlines()) == 5


def test_two_samplers_in_one_directory_write_each_tick_once(world: World, tmp_path: Path) -> None:
    argv = [*SAMPLE, "--output-dir", str(tmp_path / "out"), "--interval", "1"]
    environment = world.environment(environ())
    with started(argv, environment) as first:
        wait_until(lambda: (tmp_path / "out" / "gpu_metrics.csv").exists())
        with started(argv, environment) as second:
            time.sleep(1.5)
            first.terminate()
            assert first.wait(timeout=10) == 0
            before = len(rows_of(tmp_path / "out" / "gpu_metrics.csv"))
            wait_until(lambda: len(rows_of(tmp_path / "out" / "gpu_metrics.csv")) > before)
            second.terminate()
            assert second.wait(timeout=10) == 0
    for name, header, per_tick in (("gpu", GpuColumn.first_line(), 2), ("host", HostColumn.first_line(), 1)):
        path = tmp_path / "out" / f"{name}_metrics.csv"
        stamps = [float(row["timestamp_unix [s]"]) for row in rows_of(path)][::per_tick]
        assert path.read_bytes().count(header) == 1
        assert stamps == sorted(set(stamps))
        assert all(b - a > 0.4 for a, b in pairwise(stamps))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.survives("F23")
def test_a_standalone_sampler_ends_on_sigterm(world: World, tmp_path: Path, number: int) -> None:
    argv = [*SAMPLE, "--output-dir", str(tmp_path / "out"), "--interval", "60"]
    with started(argv, world.environment(environ())) as sampler:
        wait_until(lambda: (tmp_path / "out" / "gpu_metrics.csv").exists())
        sampler.send_signal(number)
        assert sampler.wait(timeout=5) == 0
    assert len(rows_of(tmp_path / "out" / "gpu_metrics.csv")) in {2, 4}


def test_a_standalone_sampler_ends_with_its_parent(world: World, tmp_path: Path) -> None:
    script = f"{' '.join(SAMPLE)} --output-dir {tmp_path / 'out'} & sleep 100"
    with started(["sh", "-c", script], world.environment(environ())) as parent:
        wait_until(lambda: (tmp_path / "out" / "gpu_metrics.csv").exists())
        parent.kill()
        parent.wait(timeout=5)
        wait_until(lambda: not [pid for pid in session_of(parent.pid) if _is_sampler(pid)])


def _is_sampler(pid: int) -> bool:
    try:
        return b"evalmon_agent" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_the_sampler_ends_when_run_is_killed(world: World, tmp_path: Path) -> None:
    argv = [*RUN, "--output-dir", str(tmp_path / "out"), "--", "sleep", "100"]
    with started(argv, world.environment(environ())) as run:
        wait_until(lambda: (tmp_path / "out" / "gpu_metrics.csv").exists())
        run.kill()
        run.wait(timeout=5)
        wait_until(lambda: not [pid for pid in session_of(run.pid) if _is_sampler(pid)])


@pytest.mark.parametrize("hanging", [False, True])
@pytest.mark.survives("F21")
def test_no_process_of_evalmon_is_left_after_the_command(world: World, tmp_path: Path, hanging: bool) -> None:
    if hanging:
        world.hang("nvmlDeviceGetPowerUsage")
    argv = [*RUN, "--output-dir", str(tmp_path / "out"), "--sample-interval", "1", "--", "sleep", "1.2"]
    with started(argv, world.environment(environ())) as run:
        assert run.wait(timeout=20) == 0
        assert session_of(run.pid) == []


def test_the_sampler_has_the_lowest_priority_and_holds_no_directory_or_output(world: World, tmp_path: Path) -> None:
    argv = [*RUN, "--output-dir", str(tmp_path / "out"), "--", "sleep", "100"]
    with started(argv, world.environment(environ()), cwd=tmp_path, stdin=subprocess.PIPE) as run:
        wait_until(lambda: (tmp_path / "out" / "gpu_metrics.csv").exists())

        def samplers() -> list[int]:
            """A forked child that has not started its program yet still looks like its parent."""
            return [pid for pid in session_of(run.pid) if pid != run.pid and _is_sampler(pid)]

        wait_until(lambda: len(samplers()) == 1)
        (sampler,) = samplers()
        assert os.readlink(f"/proc/{sampler}/cwd") == "/"
        assert stat_of(sampler)[16] == "19"
        standard = {os.readlink(f"/proc/{sampler}/fd/{number}") for number in range(3)}
        assert standard == {"/dev/null"}
        others = [os.readlink(f"/proc/{sampler}/fd/{fd}") for fd in os.listdir(f"/proc/{sampler}/fd") if int(fd) > 2]
        # Some libffi keeps its own library open.
        files = [path for path in others if path.startswith("/") and "/proc" not in path and ".so" not in path]
        assert sorted(files) == [str(tmp_path / "out" / f"{name}_metrics.csv") for name in ("gpu", "host")]
        limits = Path(f"/proc/{sampler}/limits").read_text()
        assert next(line.split()[4] for line in limits.splitlines() if line.startswith("Max core")) in {"0", "1"}


def test_a_file_that_the_script_itself_writes_is_left_to_the_script(world: World, tmp_path: Path) -> None:
    """As many scripts do: `nvidia-smi ... -l >gpu_metrics.csv &`."""
    script = "sleep 0.5; exec >gpu_metrics.csv; for i in 1 2 3; do echo theirs $i; sleep 0.7; done"
    argv = [*RUN, "--output-dir", str(tmp_path), "--sample-interval", "1", "--", "sh", "-c", script]
    subprocess.run(argv, cwd=tmp_path, env=world.environment(environ()), check=True, timeout=30)
    assert (tmp_path / "gpu_metrics.csv").read_text() == "theirs 1\ntheirs 2\ntheirs 3\n"


@pytest.mark.survives("S1")
@pytest.mark.parametrize("name", ["gpu_metrics.csv", "host_metrics.csv"])
@pytest.mark.survives("S1")
def test_links_planted_at_the_files_paths_are_not_followed(experiment: Experiment, world: World, name: str) -> None:
    output = experiment.directory / "out"
    output.mkdir()
    victim = experiment.directory / "victim"
    victim.write_text("untouched")
    (output / name).symlink_to(victim)
    argv = [*RUN, "--", "sh", "-c", "sleep 0.5; exit 6"]
    done = subprocess.run(argv, env=in_job(experiment, world), check=False, capture_output=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (6, b"", b"")
    assert victim.read_text() == "untouched"
    (attempt,) = experiment.report()["attempts"]
    assert attempt["sampler"]["dropped_rows"] == (2 if name.startswith("gpu") else 1)
    assert attempt["notes"] == [f"sampler: {name}: is no plain file"]


def test_a_killed_sampler_does_not_affect_the_eval(experiment: Experiment, world: World) -> None:
    argv = [*RUN, "--sample-interval", "1", "--", "sh", "-c", "echo out; sleep 1; exit 6"]
    output = experiment.directory / "out" / "gpu_metrics.csv"
    with started(argv, in_job(experiment, world, CUDA_VISIBLE_DEVICES="0")) as run:
        wait_until(output.exists)
        (sampler,) = [pid for pid in session_of(run.pid) if pid != run.pid and _is_sampler(pid)]
        os.kill(sampler, signal.SIGKILL)
        assert run.wait(timeout=10) == 6
        assert run.stdout is not None
        assert run.stdout.read() == "out\n"
    (attempt,) = experiment.report()["attempts"]
    assert attempt["notes"] == ["sampler: killed by signal 9"]
    assert attempt["sampler"]["ended"] == "killed by signal 9"


END_TIME = """
import os, sys, time
from evalmon_agent.agent.sampling import sampler
sampler._SLACK_S = 0.0
status = sampler.Sampler(sys.argv[1], interval_s=60, parent=os.getppid(), show=lambda status: None,
                         environ={"CUDA_VISIBLE_DEVICES": "", "SLURM_JOB_END_TIME": str(int(time.time()) + 2)}).run()
print(status.texts["ended"])
"""


def test_the_sampler_ends_with_the_jobs_time(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", END_TIME, str(tmp_path / "out")]
    done = subprocess.run(argv, env=environ(), capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "the job's time is over\n"


def test_another_jobs_end_time_is_ignored(experiment: Experiment, world: World) -> None:
    said, notes, _ = run_in_job(experiment, world, SLURM_JOB_END_TIME="1790000000")
    assert (said["ended"], notes) == ("SIGTERM", [])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "evalmon sample: --output-dir is missing; see evalmon sample --help\n"),
        (
            ["--output-dir", "o", "--interval", "0"],
            "evalmon sample: argument --interval: 0 is not within 1 and 86400 seconds; see evalmon sample --help\n",
        ),
        (["--output-dir", "o", "x"], "evalmon sample: unrecognized arguments: x; see evalmon sample --help\n"),
    ],
)
def test_wrong_usage_is_reported_in_one_line(words: list[str], expected: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [*SAMPLE, *words], env=environ(), cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)
    assert os.listdir(tmp_path) == []


def test_a_standalone_sampler_says_once_why_there_is_no_gpu_file_and_keeps_no_output_open(tmp_path: Path) -> None:
    argv = [*SAMPLE, "--output-dir", str(tmp_path / "out"), "--interval", "1"]
    with started(argv, environ(CUDA_VISIBLE_DEVICES="-1")) as sampler:
        assert sampler.stdout is not None
        assert sampler.stderr is not None
        expected = "evalmon sample: no gpu_metrics.csv: no GPU is the job's: CUDA_VISIBLE_DEVICES is '-1'\n"
        assert (sampler.stdout.read(), sampler.stderr.read()) == ("", expected)
        assert sampler.poll() is None


def test_a_standalone_sampler_says_once_that_it_cannot_write_and_keeps_trying(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    argv = [*SAMPLE, "--output-dir", str(tmp_path / "file" / "out"), "--interval", "1"]
    with started(argv, environ(CUDA_VISIBLE_DEVICES="-1")) as sampler:
        assert sampler.stderr is not None
        said = sampler.stderr.read().splitlines()
        assert said[1:] == ["evalmon sample: host_metrics.csv: Not a directory; tried again later"]
        assert sampler.poll() is None
