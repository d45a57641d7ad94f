"""NVML without pynvml's wrappers: the layouts are those of pynvml's own classes, and so are the answers."""

import ctypes
import json
import subprocess
import sys

import pynvml
import pytest
from in_a_job import environ

from evalmon_agent.agent.sampling import gpm, window
from nvml_standin.build import OLD_DRIVER, build
from nvml_standin.world import World


def offsets(structure: type[ctypes.Structure]) -> dict[str, int]:
    return {name: getattr(structure, name).offset for name, *_ in structure._fields_}


def test_the_layouts_are_those_that_pynvml_declares() -> None:
    assert offsets(pynvml.c_nvmlUtilization_t) == {"gpu": 0, "memory": 4}
    assert offsets(pynvml.c_nvmlMemory_t) == {"total": 0, "free": 8, "used": 16}
    memory = offsets(pynvml.c_nvmlMemory_v2_t)
    assert memory == {"version": 0, "total": 8, "reserved": 16, "free": 24, "used": 32}
    assert ctypes.sizeof(pynvml.c_nvmlMemory_v2_t) == 40
    assert offsets(pynvml.c_nvmlSample_t) == {"timeStamp": 0, "sampleValue": 8}
    assert ctypes.sizeof(pynvml.c_nvmlSample_t) == window._SAMPLE_BYTES


def test_the_layout_of_gpm_is_that_which_pynvml_declares() -> None:
    request = offsets(pynvml.c_nvmlGpmMetricsGet_t)
    assert request == {"version": 0, "numMetrics": 4, "sample1": 8, "sample2": 16, "metrics": gpm._REQUEST_HEAD.size}
    metric = offsets(pynvml.c_nvmlGpmMetric_t)
    assert (metric["metricId"], metric["nvmlReturn"], metric["value"]) == (0, 4, 8)
    assert ctypes.sizeof(pynvml.c_nvmlGpmMetric_t) == gpm._METRIC_BYTES


BOTH_WAYS = """
import json
from evalmon_agent.agent.sampling.gpu_look import Tools
from evalmon_agent.agent.sampling.nvml import NoValueError, Nvml
nvml = Nvml()
n, ask = nvml.module, Tools(nvml).questions
h = nvml.handle(nvml.devices()[0])
def ours(question):
    try: return list(question.of(h))
    except NoValueError as error: return [str(error)] * 2
def theirs(name, *arguments):
    try: return getattr(n, name)(h, *arguments)
    except n.NVMLError: return None
memory, memory_v1 = theirs("nvmlDeviceGetMemoryInfo", n.nvmlMemory_v2), theirs("nvmlDeviceGetMemoryInfo")
rates = theirs("nvmlDeviceGetUtilizationRates")
print(json.dumps([
    [ours(ask.utilization), [rates.gpu, rates.memory]],
    [ours(ask.memory)[1:], memory and [memory.total, memory.reserved, memory.free, memory.used]],
    [ours(ask.memory_v1), [memory_v1.total, memory_v1.free, memory_v1.used]],
    [ours(ask.power_mw), [theirs("nvmlDeviceGetPowerUsage")]],
    [ours(ask.power_limit_mw), [theirs("nvmlDeviceGetEnforcedPowerLimit")]],
    [ours(ask.temperature_c), [theirs("nvmlDeviceGetTemperature", n.NVML_TEMPERATURE_GPU)]],
    [ours(ask.sm_clock_mhz), [theirs("nvmlDeviceGetClockInfo", n.NVML_CLOCK_SM)]],
    [ours(ask.clock_reasons), [theirs("nvmlDeviceGetCurrentClocksEventReasons")]],
    [ours(ask.throttle_reasons), [theirs("nvmlDeviceGetCurrentClocksThrottleReasons")]],
]))
"""


def both_ways(world: World) -> list[list[object]]:
    done = subprocess.run(
        [sys.executable, "-c", BOTH_WAYS],
        env=world.environment(environ()),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == ""
    answers: list[list[object]] = json.loads(done.stdout)
    return answers


def test_each_answer_is_that_of_pynvmls_wrapper(world: World) -> None:
    world.gpus[0].clocks_event_reasons = 0x24
    world.write()
    answers = both_ways(world)
    assert [theirs for _, theirs in answers] == [ours for ours, _ in answers]
    assert answers[-1] == [[0x24], [0x24]]


def test_a_function_that_an_old_driver_lacks_has_no_value(world: World) -> None:
    world.library = build(world.control.parent / "old", without=OLD_DRIVER)
    answers = both_ways(world)
    assert answers[1] == [["[N/A]"], None]
    assert answers[7] == [["[N/A]"] * 2, [None]]
    assert answers[8] == [[0], [0]]


TYPES = {0: ("d", 37.5), 1: ("I", 37), 2: ("Q", 2**40), 3: ("Q", 2**40), 4: ("q", -5), 5: ("i", -5)}


@pytest.mark.parametrize("kind", TYPES)
def test_samples_of_each_type_are_read(kind: int) -> None:
    """The stand-in has one type only, so this is a driver in Python that has them all."""
    code, value = TYPES[kind]
    library = OneSort(kind, code, value, times_us=[10, 20, 30])
    mean = window.SampleMean(window.Samples(library), gpu=None, kind=1)  # type: ignore[arg-type]
    assert mean.since_last() == "[N/A]"
    library.times_us = [20, 30, 40, 50]
    assert mean.since_last() == value
    library.times_us = [50]
    assert mean.since_last() == "[N/A]"


class OneSort:
    """What window.Samples needs of Nvml, for samples of one type."""

    def __init__(self, kind: int, code: str, value: float, *, times_us: list[int]) -> None:
        self.kind, self.code, self.value, self.times_us = kind, code, value, times_us
        self.module = self
        self.nvmlLib = {"nvmlDeviceGetSamples": self.samples}
        self.NVML_ERROR_FUNCTION_NOT_FOUND, self.NVML_ERROR_NOT_FOUND = 13, 6

    def meaning_of(self, code: int) -> Exception:
        return ValueError(str(code))

    def samples(self, _gpu: object, _sort: object, _after: object, kind: object, count: object, buffer: object) -> int:
        size = 4 if self.code in "Ii" else 8
        if buffer is not None:
            for number, at_us in enumerate(self.times_us):
                place = ctypes.addressof(buffer) + 16 * number  # type: ignore[arg-type]
                ctypes.c_uint64.from_address(place).value = at_us
                ctypes.memset(place + 8, 0xFF, 8)
                raw = memoryview(bytearray(size)).cast(self.code)  # type: ignore[call-overload]
                raw[0] = self.value
                ctypes.memmove(place + 8, raw.tobytes(), size)
        ctypes.cast(kind, ctypes.POINTER(ctypes.c_uint))[0] = self.kind  # type: ignore[arg-type]
        ctypes.cast(count, ctypes.POINTER(ctypes.c_uint))[0] = len(self.times_us) if buffer is not None else 99  # type: ignore[arg-type]
        return 0
