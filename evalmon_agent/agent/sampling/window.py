"""What was the mean since the last look? From the driver's own samples, several a second."""

import ctypes

from .nvml_function import Function
from .reading import NO_VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .nvml import Nvml

# nvmlSample_t: a time stamp in microseconds and a value in eight bytes, of one of these types (nvmlValueType_t).
_TYPES = {0: "d", 1: "I", 2: "Q", 3: "Q", 4: "q", 5: "i"}
_SAMPLE_BYTES = 16
_SAMPLES_AT_MOST = 4096


class Samples:
    """The driver's samples of one sort on one GPU; one buffer and one set of arguments for all of them.

    By ctypes directly, for pynvml's wrapper makes an object of each sample.
    """

    def __init__(self, nvml: "Nvml") -> None:
        self._nvml = nvml
        self._kind, self._count, self._after_us = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_ulonglong()
        self._type = ctypes.c_uint()
        self._answer = (ctypes.byref(self._type), ctypes.byref(self._count))
        self._function = Function(nvml, "nvmlDeviceGetSamples")
        self._make_room(0)

    def after(self, gpu: "Any", kind: int, seen_us: int, *, room: int) -> "tuple[list[int], list[float]]":
        """Their times (us) and values; empty if there are none.

        Args:
            gpu: the handle.
            kind: nvmlSamplingType_t.
            seen_us: only later ones.
            room: for how many of them there must be room.

        Raises:
            NoValueError, LostError, FailedError: as they say.
        """
        if room > self._room:
            self._make_room(room)
        count = self._ask(gpu, kind, seen_us, self._buffer, self._room)
        code = _TYPES.get(self._type.value)
        if not count or code is None:
            return [], []
        count = min(count, self._room)
        words = 2 * _SAMPLE_BYTES // 8 if code in "Ii" else _SAMPLE_BYTES // 8
        view: Any = memoryview(self._bytes)
        values = view.cast(code)[words // 2 : words * count : words]
        return view.cast("Q")[: 2 * count : 2].tolist(), values.tolist()

    def how_many(self, gpu: "Any", kind: int) -> int:
        """How large the driver's buffer is.

        Raises:
            NoValueError, LostError, FailedError: as they say.
        """
        return min(max(self._ask(gpu, kind, 0, None, 0), 1), _SAMPLES_AT_MOST)

    def _make_room(self, room: int) -> None:
        self._room = room
        self._bytes = bytearray(room * _SAMPLE_BYTES)
        self._buffer = (ctypes.c_char * len(self._bytes)).from_buffer(self._bytes)

    def _ask(self, gpu: "Any", kind: int, seen_us: int, buffer: "Any", room: int) -> int:
        self._kind.value, self._after_us.value, self._count.value = kind, seen_us, room
        code = self._function.code(gpu, self._kind, self._after_us, *self._answer, buffer)
        if code == self._nvml.module.NVML_ERROR_NOT_FOUND:  # none since then
            return 0
        if code:
            raise self._nvml.meaning_of(code)
        return int(self._count.value)


class SampleMean:
    """The mean of one sort of sample on one GPU, from one look to the next."""

    def __init__(self, samples: Samples, gpu: "Any", kind: int) -> None:
        self._samples = samples
        self._gpu = gpu
        self._kind = kind
        self._seen_us = 0
        self._room = 0

    def since_last(self) -> float | str:
        """The mean of the samples since the last call; at the first one there is none: what was before is another's.

        Raises:
            NoValueError, LostError, FailedError: as they say.
        """
        if not self._room:
            self._room = self._samples.how_many(self._gpu, self._kind)
        before_us = self._seen_us
        times_us, values = self._samples.after(self._gpu, self._kind, before_us, room=self._room)
        if not times_us:
            return NO_VALUE
        if min(times_us) <= before_us:
            values = [value for at_us, value in zip(times_us, values, strict=True) if at_us > before_us]
        self._seen_us = max(before_us, *times_us)
        return NO_VALUE if before_us == 0 or not values else sum(values) / len(values)
