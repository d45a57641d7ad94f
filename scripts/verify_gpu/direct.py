"""Does NVML, asked directly as the sampler does, answer what it answers to pynvml's functions? On one GPU.

    python -m verify_gpu.direct UUID

Prints JSON: [figure, answer to the sampler, answer to pynvml, whether they are as close as two moments may be].
Null: there is no such figure here.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from evalmon_agent.agent.sampling.gpm import ActivityOf
from evalmon_agent.agent.sampling.gpu_look import Tools
from evalmon_agent.agent.sampling.nvml import FailedError, NoValueError, Nvml
from evalmon_agent.agent.sampling.window import SampleMean

Answer = list[float] | None

_PAUSE_S = 0.5


def compare(uuid: str) -> list[tuple[str, Answer, Answer, bool]]:
    """All figures of a row. Numbers may be a tenth apart, or this much: GPUs are never quite still."""
    nvml = Nvml()
    n, tools = nvml.module, Tools(nvml)
    ask, gpu = tools.questions, n.nvmlDeviceGetHandleByUUID(uuid)

    def asked(question: Any) -> Callable[[], list[float]]:
        return lambda: list(question.of(gpu))

    pairs: list[tuple[str, Callable[[], list[float]], Callable[[], list[float]], float]] = [
        (
            "utilization",
            asked(ask.utilization),
            lambda: _fields(n.nvmlDeviceGetUtilizationRates(gpu), "gpu memory"),
            20,
        ),
        (
            "memory",
            lambda: list(ask.memory.of(gpu))[1:],  # the version's other half may be anything
            lambda: _fields(n.nvmlDeviceGetMemoryInfo(gpu, n.nvmlMemory_v2), "total reserved free used"),
            64 << 20,
        ),
        (
            "memory_v1",
            asked(ask.memory_v1),
            lambda: _fields(n.nvmlDeviceGetMemoryInfo(gpu), "total free used"),
            64 << 20,
        ),
        ("power_mw", asked(ask.power_mw), lambda: [n.nvmlDeviceGetPowerUsage(gpu)], 50_000),
        ("power_limit_mw", asked(ask.power_limit_mw), lambda: [n.nvmlDeviceGetEnforcedPowerLimit(gpu)], 0),
        ("energy_mj", asked(ask.energy_mj), lambda: [n.nvmlDeviceGetTotalEnergyConsumption(gpu)], 1e6),
        (
            "temperature_c",
            asked(ask.temperature_c),
            lambda: [n.nvmlDeviceGetTemperature(gpu, n.NVML_TEMPERATURE_GPU)],
            3,
        ),
        ("sm_clock_mhz", asked(ask.sm_clock_mhz), lambda: [n.nvmlDeviceGetClockInfo(gpu, n.NVML_CLOCK_SM)], 500),
        (
            "throttle_reasons",
            asked(ask.throttle_reasons),
            lambda: [n.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)],
            1e9,
        ),
    ]
    found = [_line(name, ours, theirs, n.NVMLError, apart) for name, ours, theirs, apart in pairs]
    found.append(_samples(nvml, tools, gpu))
    found.append(_activity(nvml, tools, gpu))
    return found


def _samples(nvml: Nvml, tools: Tools, gpu: Any) -> tuple[str, Answer, Answer, bool]:
    n = nvml.module
    mean = SampleMean(tools.samples, gpu, n.NVML_GPU_UTILIZATION_SAMPLES)

    def ours() -> list[float]:
        mean.since_last()
        time.sleep(_PAUSE_S)
        return [_number(mean.since_last())]

    def theirs() -> list[float]:
        samples = n.nvmlDeviceGetSamples(gpu, n.NVML_GPU_UTILIZATION_SAMPLES, 0)[1]
        newest = samples[-3:]
        return [sum(sample.sampleValue.uiVal for sample in newest) / len(newest)]

    return _line("samples", ours, theirs, n.NVMLError, 30)


def _activity(nvml: Nvml, tools: Tools, gpu: Any) -> tuple[str, Answer, Answer, bool]:
    n = nvml.module
    ours_of = ActivityOf(tools.activity, gpu)

    def ours() -> list[float]:
        ours_of.since_last()
        time.sleep(_PAUSE_S)
        return [_number(value) for value in ours_of.since_last()]

    def theirs() -> list[float]:
        before, now = n.nvmlGpmSampleAlloc(), n.nvmlGpmSampleAlloc()
        n.nvmlGpmSampleGet(gpu, before)
        time.sleep(_PAUSE_S)
        n.nvmlGpmSampleGet(gpu, now)
        request = n.c_nvmlGpmMetricsGet_t()
        request.version, request.numMetrics = n.NVML_GPM_METRICS_GET_VERSION, 3
        request.sample1, request.sample2 = before, now
        wanted = (n.NVML_GPM_METRIC_GRAPHICS_UTIL, n.NVML_GPM_METRIC_SM_UTIL, n.NVML_GPM_METRIC_ANY_TENSOR_UTIL)
        for metric, number in zip(request.metrics, wanted, strict=False):
            metric.metricId = number
        n.nvmlGpmMetricsGet(request)
        return [request.metrics[place].value for place in range(3)]

    return _line("gpm", ours, theirs, n.NVMLError, 20)


def _line(
    name: str, ours: Callable[[], list[float]], theirs: Callable[[], list[float]], error: Any, apart: float
) -> tuple[str, Answer, Answer, bool]:
    mine: Answer
    other: Answer
    try:
        mine = ours()
    except (NoValueError, FailedError, ValueError):
        mine = None
    try:
        other = theirs()
    except error:
        other = None
    return name, mine, other, _are_close(mine, other, apart)


def _are_close(mine: Answer, other: Answer, apart: float) -> bool:
    if mine is None or other is None:
        return mine is other
    return len(mine) == len(other) and all(
        abs(a - b) <= max(apart, 0.1 * max(abs(a), abs(b))) for a, b in zip(mine, other, strict=True)
    )


def _fields(structure: Any, names: str) -> list[float]:
    return [getattr(structure, name) for name in names.split()]


def _number(value: object) -> float:
    """ValueError: there is none."""
    return float(str(value))


if __name__ == "__main__":
    print(json.dumps(compare(sys.argv[1])))
