"""Measures how busy the parts of a GPU were since the last look, by GPM: on Hopper and later, also for MIG instances.

Two of NVML's samples, taken one tick apart, and their difference: nothing sleeps in between.
"""

from __future__ import annotations

from typing import Any

from .gpu_records import NO_VALUE
from .nvml import FailedError, LostError, NoValueError, Nvml

_METRICS = ("NVML_GPM_METRIC_GRAPHICS_UTIL", "NVML_GPM_METRIC_SM_UTIL", "NVML_GPM_METRIC_ANY_TENSOR_UTIL")


class Activity:
    """One GPU's, or one MIG instance's."""

    def __init__(self, nvml: Nvml, gpu: Any, *, instance: Any = None) -> None:
        self._nvml = nvml
        self._gpu = gpu
        self._instance = instance
        self._instance_id: int | None = None
        self._samples: list[Any] = []
        self._is_supported: bool | None = None

    def since_last(self) -> tuple[float | str, ...] | str:
        """Graphics (any kernel), SM and tensor activity since the call before, each a percentage or "[N/A]".

        "[N/A]" at the first call, and where there is no GPM.

        Raises:
            NoValueError, LostError, FailedError: as they say.
        """
        if self._is_supported is None:
            self._prepare()
        if not self._is_supported:
            return NO_VALUE
        is_first = not self._samples
        if is_first:
            self._samples = [self._nvml.ask("nvmlGpmSampleAlloc") for _ in range(2)]
        before, now = self._samples
        try:
            self._take(now)
        except (NoValueError, LostError, FailedError):
            self._start_over()
            raise
        self._samples = [now, before]
        return NO_VALUE if is_first else self._between(before, now)

    def _prepare(self) -> None:
        try:
            self._is_supported = bool(self._nvml.ask("nvmlGpmQueryDeviceSupport", self._gpu).isSupportedDevice)
            if self._is_supported and self._instance is not None:
                self._instance_id = self._nvml.ask("nvmlDeviceGetGpuInstanceId", self._instance)
        except NoValueError:
            self._is_supported = False

    def _take(self, sample: Any) -> None:
        if self._instance_id is None:
            self._nvml.ask("nvmlGpmSampleGet", self._gpu, sample)
        else:
            self._nvml.ask("nvmlGpmMigSampleGet", self._gpu, self._instance_id, sample)

    def _between(self, before: Any, now: Any) -> tuple[float | str, ...]:
        module = self._nvml.module
        request = module.c_nvmlGpmMetricsGet_t()
        request.version, request.numMetrics = module.NVML_GPM_METRICS_GET_VERSION, len(_METRICS)
        request.sample1, request.sample2 = before, now
        for number, name in enumerate(_METRICS):
            request.metrics[number].metricId = getattr(module, name)
        self._nvml.ask("nvmlGpmMetricsGet", request)
        return tuple(_value(request.metrics[number]) for number in range(len(_METRICS)))

    def _start_over(self) -> None:
        """After a failure the sample before is of no use."""
        samples, self._samples = self._samples, []
        for sample in samples:
            try:
                self._nvml.ask("nvmlGpmSampleFree", sample)
            except (NoValueError, LostError, FailedError):
                self._is_supported = False


def _value(metric: Any) -> float | str:
    return metric.value if metric.nvmlReturn == 0 and 0 <= metric.value <= 100.5 else NO_VALUE
