"""What was the mean since the last look? From the driver's own samples, several a second."""

import ctypes
import struct

from .reading import NO_VALUE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .nvml import Nvml

# nvmlSample_t: a time stamp in microseconds and a value of eight bytes, of one of these types (nvmlValueType_t).
_SAMPLE = {0: "=Qd", 1: "=QI4x", 2: "=QQ", 3: "=QQ", 4: "=Qq", 5: "=Qi4x"}
_SAMPLE_BYTES = 16
_SAMPLES_AT_MOST = 4096


class SampleMean:
    """The mean of one sort of sample; by ctypes directly, for pynvml's wrapper makes an object of each."""

    def __init__(self, nvml: "Nvml", gpu: "Any", kind: str) -> None:
        self._nvml = nvml
        self._gpu = gpu
        self._kind = getattr(nvml.module, kind)
        self._seen_us = 0
        self._room = 0
        self._buffer: ctypes.Array[ctypes.c_char] | None = None

    def since_last(self) -> float | str:
        """The mean of the samples since the last call; at the first one there is none: what was before is another's.

        Raises:
            NoValueError, LostError, FailedError: as they say.
        """
        is_first = self._seen_us == 0
        samples = [(at_us, value) for at_us, value in self._samples() if at_us > self._seen_us]
        if not samples:
            return NO_VALUE
        self._seen_us = max(at_us for at_us, _ in samples)
        return NO_VALUE if is_first else sum(value for _, value in samples) / len(samples)

    def _samples(self) -> "list[tuple[int, float]]":
        if not self._room:
            count, _ = self._call(0)
            self._room = min(max(count, 1), _SAMPLES_AT_MOST)
            self._buffer = ctypes.create_string_buffer(self._room * _SAMPLE_BYTES)
        count, kind = self._call(self._room)
        if self._buffer is None or kind not in _SAMPLE:
            return []
        data = self._buffer.raw[: min(count, self._room) * _SAMPLE_BYTES]
        return list(struct.iter_unpack(_SAMPLE[kind], data))

    def _call(self, room: int) -> tuple[int, int]:
        """How many samples there are and of which type; with room for some, they are in the buffer."""
        count, kind = ctypes.c_uint(room), ctypes.c_uint(0)
        arguments = (self._gpu, ctypes.c_uint(self._kind), ctypes.c_ulonglong(self._seen_us))
        buffer = self._buffer if room else None
        code = self._function()(*arguments, ctypes.byref(kind), ctypes.byref(count), buffer)
        if code == self._nvml.module.NVML_ERROR_NOT_FOUND:  # none since then
            return 0, kind.value
        if code:
            raise self._nvml.meaning_of(code)
        return count.value, kind.value

    def _function(self) -> "Any":
        try:
            return self._nvml.module.nvmlLib.nvmlDeviceGetSamples
        except AttributeError:
            raise self._nvml.meaning_of(self._nvml.module.NVML_ERROR_FUNCTION_NOT_FOUND) from None
