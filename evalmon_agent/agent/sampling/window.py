"""Means over the time since the last look, from the driver's own samples, several a second."""

from __future__ import annotations

from typing import Any

from .gpu_records import NO_VALUE
from .nvml import Nvml

# The member of pynvml's c_nvmlValue_t for each nvmlValueType_t.
_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal"}


class SampleMean:
    """The mean of one sort of sample (nvmlSamplingType_t) on one GPU, from one look to the next."""

    def __init__(self, nvml: Nvml, gpu: Any, sort: int) -> None:
        self._nvml = nvml
        self._gpu = gpu
        self._sort = sort
        self._last_us = 0

    def since_last(self) -> float | str:
        """The mean of the samples since the last call; at the first one there is none: what was before is another's.

        Raises:
            NoValueError, LostError, FailedError: as they say; FailedError also where there is no new sample.
        """
        before_us = self._last_us
        kind, samples = self._nvml.ask("nvmlDeviceGetSamples", self._gpu, self._sort, before_us)
        member = _MEMBERS.get(kind)
        new = [sample for sample in samples if sample.timeStamp > before_us]
        if member is None or not new:
            return NO_VALUE
        self._last_us = max(sample.timeStamp for sample in new)
        return NO_VALUE if before_us == 0 else sum(getattr(sample.sampleValue, member) for sample in new) / len(new)
