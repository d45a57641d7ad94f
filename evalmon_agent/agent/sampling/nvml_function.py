"""NVML's C functions that are asked again and again, called without pynvml's wrappers.

Those look the function up, make an object for the answer and dress structures for printing at each call, which was
a third of a tick with eight GPUs. Here function and place for the answer are made once, for all GPUs: one thread asks.
"""

import ctypes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .nvml import Nvml


class Function:
    """One function that is called with whole arguments; the answer is in one of them."""

    __slots__ = ("_meaning_of", "_missing", "_symbol")

    def __init__(self, nvml: "Nvml", name: str) -> None:
        self._meaning_of = nvml.meaning_of
        self._missing = nvml.module.NVML_ERROR_FUNCTION_NOT_FOUND
        self._symbol: Callable[..., int] | None
        try:
            self._symbol = nvml.module.nvmlLib[name]
        except AttributeError:  # an older driver
            self._symbol = None

    def __call__(self, *arguments: "Any") -> None:
        """Call it.

        Raises:
            NoValueError, LostError, FailedError: as they say.
        """
        if code := self.code(*arguments):
            raise self._meaning_of(code)

    def code(self, *arguments: "Any") -> int:
        """What it returns: 0 is success."""
        return self._symbol(*arguments) if self._symbol is not None else self._missing


class Question(Function):
    """A function of a device that writes its answer to where its last argument points."""

    __slots__ = ("_answer", "_rest")

    def __init__(self, nvml: "Nvml", name: str, answer: "ctypes.Array[Any]", *constants: int) -> None:
        """`answer`: a ctypes array, good for all calls; `constants` stand between device and answer."""
        super().__init__(nvml, name)
        self._answer = answer
        self._rest = (*map(ctypes.c_uint, constants), ctypes.byref(answer))

    def of(self, device: "Any") -> "Any":
        """The array with the answer, until the next call.

        Raises:
            NoValueError, LostError, FailedError: as they say.
        """
        symbol = self._symbol  # not by the methods above: ten times for each GPU, two calls less
        code = symbol(device, *self._rest) if symbol is not None else self._missing
        if code:
            raise self._meaning_of(code)
        return self._answer


class Questions:
    """What is asked of each GPU at each tick. Layouts as in nvml.h."""

    __slots__ = (
        "clock_reasons",
        "energy_mj",
        "memory",
        "memory_v1",
        "power_limit_mw",
        "power_mw",
        "sm_clock_mhz",
        "temperature_c",
        "throttle_reasons",
        "utilization",
    )

    def __init__(self, nvml: "Nvml") -> None:
        module = nvml.module
        self.utilization = Question(nvml, "nvmlDeviceGetUtilizationRates", (ctypes.c_uint * 2)())
        # nvmlMemory_v2_t: version (and padding), total, reserved, free, used; nvmlMemory_t: total, free, used.
        memory = (ctypes.c_ulonglong * 5)(getattr(module, "nvmlMemory_v2", 0))
        self.memory = Question(nvml, "nvmlDeviceGetMemoryInfo_v2", memory)
        self.memory_v1 = Question(nvml, "nvmlDeviceGetMemoryInfo", (ctypes.c_ulonglong * 3)())
        self.power_mw = Question(nvml, "nvmlDeviceGetPowerUsage", (ctypes.c_uint * 1)())
        self.power_limit_mw = Question(nvml, "nvmlDeviceGetEnforcedPowerLimit", (ctypes.c_uint * 1)())
        self.energy_mj = Question(nvml, "nvmlDeviceGetTotalEnergyConsumption", (ctypes.c_ulonglong * 1)())
        sensor = module.NVML_TEMPERATURE_GPU
        self.temperature_c = Question(nvml, "nvmlDeviceGetTemperature", (ctypes.c_uint * 1)(), sensor)
        self.sm_clock_mhz = Question(nvml, "nvmlDeviceGetClockInfo", (ctypes.c_uint * 1)(), module.NVML_CLOCK_SM)
        reasons = (ctypes.c_ulonglong * 1)()
        self.clock_reasons = Question(nvml, "nvmlDeviceGetCurrentClocksEventReasons", reasons)
        self.throttle_reasons = Question(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", reasons)
