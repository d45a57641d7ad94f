"""Tests that the stand-in for NVML gives the real nvidia-ml-py what a test sets, at the time it is set for."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nvml_standin import world as errors
from nvml_standin.world import World

# What each test's code may use: `n` is the real binding, `h` the first GPU's handle, `error_of` an NVMLError's number.
_BEGINNING = """
import ctypes, json, os, sys, threading, time
import pynvml as n
def error_of(call, *arguments):
    try:
        call(*arguments)
    except n.NVMLError as error:
        return error.value
n.nvmlInit()
h = n.nvmlDeviceGetHandleByIndex(0) if n.nvmlDeviceGetCount() else None
def said(value):
    print(json.dumps(value), flush=True)
"""


def ask(world: World, code: str) -> object:
    """The last value that `code` passed to said()."""
    command = [sys.executable, "-c", _BEGINNING + code]
    done = subprocess.run(command, env=world.environment(), check=True, capture_output=True, text=True, timeout=30)
    return json.loads(done.stdout.splitlines()[-1])


def test_two_gpus_with_names_and_numbers_exist(world: World) -> None:
    world.gpus[1].minor = 5
    world.write()
    code = """
h1 = n.nvmlDeviceGetHandleByUUID("GPU-00000001-1111-2222-3333-444455556666")
said([n.nvmlDeviceGetCount(), n.nvmlDeviceGetUUID(h), n.nvmlDeviceGetName(h), n.nvmlDeviceGetIndex(h1),
      n.nvmlDeviceGetMinorNumber(h1), n.nvmlSystemGetDriverVersion(),
      error_of(n.nvmlDeviceGetHandleByUUID, "GPU-9"), error_of(n.nvmlDeviceGetHandleByIndex, 2)])
"""
    uuid = "GPU-00000000-1111-2222-3333-444455556666"
    assert [2, uuid, "NVIDIA H100 80GB HBM3", 1, 5, "570.133.20", 6, 2] == ask(world, code)


def test_the_figures_at_a_time_are_those_of_the_world(world: World) -> None:
    world.gpus[0].clocks_event_reasons = 0x24
    world.write()
    code = """
u = n.nvmlDeviceGetUtilizationRates(h)
said([u.gpu, u.memory, n.nvmlDeviceGetPowerUsage(h), n.nvmlDeviceGetEnforcedPowerLimit(h),
      n.nvmlDeviceGetPowerManagementLimit(h), n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU),
      n.nvmlDeviceGetTemperatureV(h, n.NVML_TEMPERATURE_GPU), n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_SM),
      n.nvmlDeviceGetClockInfo(h, n.NVML_CLOCK_MEM), n.nvmlDeviceGetCurrentClocksEventReasons(h),
      n.nvmlDeviceGetCurrentClocksThrottleReasons(h)])
"""
    assert [37, 12, 180400, 700000, 700000, 44, 44, 1980, 2619, 0x24, 0x24] == ask(world, code)


def test_memory_of_version_1_includes_the_reserved_part_and_version_2_does_not(world: World) -> None:
    code = """
one, two = n.nvmlDeviceGetMemoryInfo(h), n.nvmlDeviceGetMemoryInfo(h, version=n.nvmlMemory_v2)
wrong = error_of(n.nvmlDeviceGetMemoryInfo, h, 0x01000028)
said([[x >> 20 for x in (one.used, one.total, two.used, two.reserved, two.total)], one.free == two.free, wrong])
"""
    assert [[4535, 81559, 3984, 551, 81559], True, 25] == ask(world, code)


def test_energy_follows_power_and_time_when_the_power_changes(world: World) -> None:
    world.gpus[0].power_w = 100
    world.write()
    code = """
def energy(): return time.time(), n.nvmlDeviceGetTotalEnergyConsumption(h)
(t0, e0), _, (t1, e1) = energy(), time.sleep(0.2), energy()
print("now", flush=True); sys.stdin.readline()
(t2, e2), _, (t3, e3) = energy(), time.sleep(0.2), energy()
said([(e1 - e0) / 1000 / (t1 - t0), (e3 - e2) / 1000 / (t3 - t2), e2 >= e1])
"""
    with _asking(world, code) as process:
        assert process.stdout.readline() == "now\n"
        world.gpus[0].power_w = 300
        world.write()
        before, after, goes_on = json.loads(process.communicate("\n", timeout=20)[0])
    assert [before, after] == pytest.approx([100, 300], rel=0.05)
    assert goes_on


def test_without_init_after_shutdown_and_in_a_forked_child_calls_fail(world: World) -> None:
    code = """
child = os.fork()
if not child:
    os._exit(error_of(n.nvmlDeviceGetCount) == 999)
forked = os.waitpid(child, 0)[1] >> 8
n.nvmlShutdown()
said([forked, error_of(n.nvmlDeviceGetCount)])
"""
    assert [1, 1] == ask(world, code)


def test_without_gpus_the_count_is_0(tmp_path: Path, standin: Path) -> None:
    assert ask(World(tmp_path, standin, gpus=0), "said(n.nvmlDeviceGetCount())") == 0


def test_calls_are_logged_with_gpu_process_and_thread(world: World, tmp_path: Path) -> None:
    world.log = tmp_path / "calls"
    world.write()
    pid = ask(world, "n.nvmlDeviceGetPowerUsage(h); said(os.getpid())")
    assert [
        "nvmlInitWithFlags",
        "nvmlDeviceGetCount_v2",
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetPowerUsage",
    ] == world.calls()
    assert f"nvmlDeviceGetPowerUsage 0 {pid} {pid}" == world.log.read_text().splitlines()[-1]


def test_the_cpu_time_of_calls_is_added_up(world: World, tmp_path: Path) -> None:
    world.cpu = tmp_path / "cpu"
    world.write()
    code = """
def used(): return time.clock_gettime(time.CLOCK_THREAD_CPUTIME_ID)
def charged(): return int.from_bytes(open(sys.argv[1], "rb").read(), sys.byteorder) / 1e9
before, start = charged(), used()
for _ in range(2000): n.nvmlDeviceGetPowerUsage(h)
said([charged() - before, used() - start])
"""
    command = [sys.executable, "-c", _BEGINNING + code, str(world.cpu)]
    done = subprocess.run(command, env=world.environment(), check=True, capture_output=True, text=True, timeout=30)
    charged_s, all_s = json.loads(done.stdout)
    assert 0 < charged_s < all_s
    assert world.cpu_s() >= charged_s


def test_the_samples_since_a_time_stamp_follow_the_curve(world: World) -> None:
    world.epoch = time.time() - 100
    world.gpus[0].utilization = "0:0 98:100"
    world.gpus[0].power_w = 250
    world.write()
    code = """
kind, all_of_them = n.nvmlDeviceGetSamples(h, n.NVML_GPU_UTILIZATION_SAMPLES, 0)
newest = all_of_them[-1].timeStamp
_, later = n.nvmlDeviceGetSamples(h, n.NVML_GPU_UTILIZATION_SAMPLES, newest - 1_000_000)
power = n.nvmlDeviceGetSamples(h, n.NVML_TOTAL_POWER_SAMPLES, 0)[1]
said([kind, len(all_of_them), sum(s.sampleValue.uiVal for s in all_of_them) / 100, len(later),
      abs(newest / 1e6 - time.time()) < 1, [len(power), power[0].sampleValue.uiVal],
      error_of(n.nvmlDeviceGetSamples, h, n.NVML_GPU_UTILIZATION_SAMPLES, newest + 9_000_000)])
"""
    kind, count, busy, later, is_now, power, none_new = ask(world, code)
    assert [1, 99, True, [119, 250000], 6] == [kind, count, is_now, power, none_new]
    assert 12 <= busy <= 20
    assert 6 <= later <= 7


def test_mig_devices_have_a_gap_in_their_numbers_and_no_utilization(world: World) -> None:
    world.slice_up(0, 0, 2)
    code = """
migs = [error_of(n.nvmlDeviceGetMigDeviceHandleByIndex, h, i) for i in range(n.nvmlDeviceGetMaxMigDeviceCount(h))]
m = n.nvmlDeviceGetMigDeviceHandleByIndex(h, 2)
parent = n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(m)
said([n.nvmlDeviceGetMigMode(h), migs, bool(n.nvmlDeviceIsMigDeviceHandle(m)), bool(n.nvmlDeviceIsMigDeviceHandle(h)),
      n.nvmlDeviceGetUUID(m), n.nvmlDeviceGetUUID(parent), n.nvmlDeviceGetGpuInstanceId(m),
      n.nvmlDeviceGetMemoryInfo(m).total >> 20, error_of(n.nvmlDeviceGetUtilizationRates, m),
      error_of(n.nvmlDeviceGetUtilizationRates, h), error_of(n.nvmlDeviceGetSamples, h, 1, 0),
      n.nvmlDeviceGetPowerUsage(parent), n.nvmlDeviceGetUUID(n.nvmlDeviceGetHandleByUUID(n.nvmlDeviceGetUUID(m)))])
"""
    uuid = "MIG-00000000-0002-2222-3333-444455556666"
    assert ask(world, code) == [
        [1, 1],
        [None, 6, None, 6, 6, 6, 6],
        True,
        False,
        uuid,
        world.gpus[0].uuid,
        3,
        40192,
        3,
        3,
        3,
        180400,
        uuid,
    ]


_GPM = """
def metrics_between(take, pause_s):
    samples = [n.nvmlGpmSampleAlloc(), n.nvmlGpmSampleAlloc()]
    take(samples[0]); time.sleep(pause_s); take(samples[1])
    asked = n.c_nvmlGpmMetricsGet_t()
    asked.version, asked.numMetrics = n.NVML_GPM_METRICS_GET_VERSION, 3
    asked.sample1, asked.sample2 = samples
    for i, metric in enumerate((n.NVML_GPM_METRIC_SM_UTIL, n.NVML_GPM_METRIC_ANY_TENSOR_UTIL, 200)):
        asked.metrics[i].metricId = metric
    n.nvmlGpmMetricsGet(asked)
    for sample in samples: n.nvmlGpmSampleFree(sample)
    return [(m.nvmlReturn, round(m.value)) for m in asked.metrics[:3]]
"""


def test_gpm_gives_the_mean_between_two_samples(world: World) -> None:
    world.gpus[1].gpm = False
    world.write()
    code = f"""{_GPM}
h1 = n.nvmlDeviceGetHandleByIndex(1)
support = [n.nvmlGpmQueryDeviceSupport(x).isSupportedDevice for x in (h, h1)]
said([support, metrics_between(lambda s: n.nvmlGpmSampleGet(h, s), 0.05),
      error_of(n.nvmlGpmSampleGet, h1, n.nvmlGpmSampleAlloc())])
"""
    assert [[1, 0], [[0, 30], [0, 20], [3, 0]], 3] == ask(world, code)


def test_gpm_of_a_mig_device_is_that_of_its_gpu(world: World) -> None:
    world.slice_up(0, 0, 2)
    world.gpus[0].instances[1].sm_active = 55
    world.write()
    code = f"{_GPM}\nsaid(metrics_between(lambda s: n.nvmlGpmMigSampleGet(h, 3, s), 0.05))"
    assert [[0, 55], [0, 0], [3, 0]] == ask(world, code)


_SEVEN = "timestamp,utilization.gpu,utilization.memory,memory.used,memory.total,power.draw,temperature.gpu"


def nvidia_smi(world: World, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The stand-in's nvidia-smi with the seven fields, in an environment without the stand-in's variables."""
    command = [str(world.install_nvidia_smi(directory)), f"--query-gpu={_SEVEN}", "--format=csv", *options]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=20)


def test_nvidia_smi_prints_seven_columns(world: World, tmp_path: Path) -> None:
    world.refuse("nvmlDeviceGetPowerUsage", errors.NOT_SUPPORTED, gpu=1)
    header, first, second = nvidia_smi(world, tmp_path).stdout.splitlines()
    assert (
        "timestamp, utilization.gpu [%], utilization.memory [%], memory.used [MiB], memory.total [MiB], "
        "power.draw [W], temperature.gpu"
    ) == header
    assert re.fullmatch(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{3}, 37 %, 12 %, 3984 MiB, 81559 MiB, 180\.40 W, 44", first)
    assert second.endswith(", 81559 MiB, [N/A], 44")


def test_nvidia_smi_fails_as_without_a_driver(world: World, tmp_path: Path) -> None:
    world.refuse("nvmlInitWithFlags", errors.DRIVER_NOT_LOADED)
    done = nvidia_smi(world, tmp_path)
    assert done.returncode == 9
    assert done.stdout.startswith("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.")


def test_nvidia_smi_repeats_with_l(world: World, tmp_path: Path) -> None:
    command = [str(world.install_nvidia_smi(tmp_path)), "--query-gpu=index", "--format=csv,noheader", "-lms", "50"]
    with subprocess.Popen([*command, "-i", "1"], stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(3)]
        process.kill()
    assert ["1\n"] * 3 == lines


def test_a_mistake_in_the_control_file_is_an_error(world: World) -> None:
    world.gpus[0].power_w = "5:1 3:2"
    world.write()
    done = subprocess.run(
        [sys.executable, "-c", _BEGINNING],
        check=False,
        env=world.environment(),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert [97, "nvml_standin: no figure: power_w\n"] == [done.returncode, done.stderr]


def _asking(world: World, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _BEGINNING + code]
    return subprocess.Popen(command, env=world.environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
