"""How busy were the parts of a GPU since the last look? GPM, on Hopper and later, also for MIG instances.

Two of NVML's samples, taken one tick apart, and their difference: nothing sleeps in between.
"""

import ctypes
import struct

from .nvml import FailedError, LostError, NoValueError
from .nvml_function import Function
from .reading import NO_VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .nvml import Nvml

# nvmlGpmMetricsGet_t: version, number of metrics, two samples, then metrics: id, return code, value, and three
# pointers to names. By struct, for in pynvml's classes each access to a field costs 1 us.
_REQUEST_HEAD = struct.Struct("=IIQQ")
_METRIC_HEAD = struct.Struct("=Iid")
_METRIC_BYTES = 40
# The driver looks at as many as it is told of; at its smallest (R520) the structure had this many.
_METRICS_OF_ROOM = 98


class Activity:
    """The difference of two samples, on any GPU; one request for all."""

    def __init__(self, nvml: "Nvml") -> None:
        module = nvml.module
        self.nvml = nvml
        self.take, self.take_of_instance = Function(nvml, "nvmlGpmSampleGet"), Function(nvml, "nvmlGpmMigSampleGet")
        self._metrics_get = Function(nvml, "nvmlGpmMetricsGet")
        names = ("GRAPHICS_UTIL", "SM_UTIL", "ANY_TENSOR_UTIL")
        self._wanted = [getattr(module, f"NVML_GPM_METRIC_{name}", 0) for name in names]
        self._version = getattr(module, "NVML_GPM_METRICS_GET_VERSION", 1)
        self._request = bytearray(_REQUEST_HEAD.size + _METRICS_OF_ROOM * _METRIC_BYTES)
        self._argument = (ctypes.c_char * len(self._request)).from_buffer(self._request)
        self._places = [_REQUEST_HEAD.size + number * _METRIC_BYTES for number in range(len(names))]
        for place, number in zip(self._places, self._wanted, strict=True):
            _METRIC_HEAD.pack_into(self._request, place, number, 0, 0.0)
        self._metrics = slice(_REQUEST_HEAD.size, _REQUEST_HEAD.size + len(names) * _METRIC_BYTES)
        self._blank = bytes(self._request[self._metrics])

    def between(self, before: int, now: int) -> "tuple[float | str, ...]":
        """Graphics (any kernel), SM and tensor activity, each a percentage or "[N/A]".

        Raises:
            NoValueError, LostError, FailedError: as they say.
        """
        request = self._request
        _REQUEST_HEAD.pack_into(request, 0, self._version, len(self._wanted), before, now)
        request[self._metrics] = self._blank
        self._metrics_get(self._argument)
        return tuple(_value(*_METRIC_HEAD.unpack_from(request, place)) for place in self._places)


class ActivityOf:
    """One GPU's, or one instance's."""

    def __init__(self, activity: Activity, gpu: "Any", *, instance: "Any" = None) -> None:
        self._activity = activity
        self._nvml = activity.nvml
        self._gpu = gpu
        self._instance = instance
        self._instance_id: ctypes.c_uint | None = None
        self._samples: list[_Sample] = []
        self._is_supported: bool | None = None

    def since_last(self) -> "tuple[float | str, ...] | str":
        """The three since the call before, as Activity gives them; "[N/A]" at the first.

        Raises:
            NoValueError, LostError, FailedError: as they say.
        """
        if self._is_supported is None:
            self._prepare()
        if not self._is_supported:
            return NO_VALUE
        is_first = not self._samples
        if is_first:
            self._samples = [_Sample(self._nvml) for _ in range(2)]
        before, now = self._samples
        try:
            self._take(now.handle)
        except (NoValueError, LostError, FailedError):
            self._start_over()
            raise
        self._samples = [now, before]
        return NO_VALUE if is_first else self._activity.between(before.address, now.address)

    def _prepare(self) -> None:
        try:
            self._is_supported = bool(self._nvml.ask("nvmlGpmQueryDeviceSupport", self._gpu).isSupportedDevice)
            if self._is_supported and self._instance is not None:
                self._instance_id = ctypes.c_uint(self._nvml.ask("nvmlDeviceGetGpuInstanceId", self._instance))
        except NoValueError:
            self._is_supported = False

    def _take(self, sample: "Any") -> None:
        if self._instance_id is None:
            self._activity.take(self._gpu, sample)
        else:
            self._activity.take_of_instance(self._gpu, self._instance_id, sample)

    def _start_over(self) -> None:
        """After a failure the sample before is of no use."""
        samples, self._samples = self._samples, []
        for sample in samples:
            try:
                self._nvml.ask("nvmlGpmSampleFree", sample.handle)
            except (NoValueError, LostError, FailedError):
                self._is_supported = False


class _Sample:
    """One of NVML's, and where it lies.

    Raises:
        NoValueError, LostError, FailedError: as they say.
    """

    __slots__ = ("address", "handle")

    def __init__(self, nvml: "Nvml") -> None:
        self.handle = nvml.ask("nvmlGpmSampleAlloc")
        self.address = ctypes.cast(self.handle, ctypes.c_void_p).value or 0


def _value(_id: int, code: int, value: float) -> float | str:
    return value if code == 0 and 0 <= value <= 100.5 else NO_VALUE
