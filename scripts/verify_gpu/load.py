"""Keeps one GPU, or its memory, busy as planned, by the driver's own API, which every machine with a GPU has.

    python -m verify_gpu.load START < PLAN > WHAT-HAPPENED

START is the unix time of the plan's second 0. Plan and result are lines `START END`, in seconds of the plan and in unix
seconds; a plan's line `START END MIB` holds so much memory in that time. Runs on the first GPU of CUDA_VISIBLE_DEVICES.
"""

import ctypes
import sys
import time

# A kernel that lasts for a given time and does nothing. Drivers translate it for the GPU that they find.
_PTX = """
.version 6.3
.target {target}
.address_size 64
.visible .entry spin(.param .u64 length_ns)
{{
    .reg .pred %is_early;
    .reg .u64 %start, %now, %length, %gone;
    ld.param.u64 %length, [length_ns];
    mov.u64 %start, %globaltimer;
again:
    mov.u64 %now, %globaltimer;
    sub.u64 %gone, %now, %start;
    setp.lt.u64 %is_early, %gone, %length;
    @%is_early bra again;
    ret;
}}
"""
_TARGETS = ("sm_52", "sm_75")  # a driver that knows no old ones any more takes the newer

# Short enough that a burst ends on time, long enough that the gaps between two are negligible.
_KERNEL_S = 0.05
_BLOCKS, _THREADS = 256, 128
_MEMORY_BYTES = 256 * 2**20


class CudaError(Exception):
    """A call of the driver's API failed."""


class Gpu:
    """The first visible GPU, with a kernel that runs as long as wanted."""

    def __init__(self) -> None:
        """Takes some memory too, so that there is something to see.

        Raises:
            CudaError: there is none, or it cannot be used.
        """
        try:
            self._cuda = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise CudaError(f"no libcuda.so.1: {error}") from None
        self._call("cuInit", ctypes.c_uint(0))
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self._call("cuCtxSetCurrent", context)
        self._call("cuMemAlloc_v2", ctypes.byref(ctypes.c_uint64()), ctypes.c_size_t(_MEMORY_BYTES))
        self._kernel = self._load()

    def spin(self, seconds: float) -> None:
        """Be busy that long, then return."""
        left_s = seconds
        while left_s > 1e-4:
            self._launch(min(left_s, _KERNEL_S))
            left_s -= _KERNEL_S
        self._call("cuCtxSynchronize")

    def hold(self, size_mib: int, until: float) -> None:
        """Hold this much memory until that unix time."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size_mib * 2**20))
        time.sleep(max(0.0, until - time.time()))
        self._call("cuMemFree_v2", address)

    def _launch(self, seconds: float) -> None:
        length = ctypes.c_uint64(int(seconds * 1e9))
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(length))
        sizes = [ctypes.c_uint(number) for number in (_BLOCKS, 1, 1, _THREADS, 1, 1, 0)]
        self._call("cuLaunchKernel", self._kernel, *sizes, None, parameters, None)

    def _load(self) -> ctypes.c_void_p:
        module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
        for target in _TARGETS:
            try:
                text = _PTX.format(target=target).encode()
                self._call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(text))
            except CudaError:
                if target == _TARGETS[-1]:
                    raise
            else:
                break
        self._call("cuModuleGetFunction", ctypes.byref(kernel), module, ctypes.c_char_p(b"spin"))
        return kernel

    def _call(self, name: str, *arguments: object) -> None:
        error = getattr(self._cuda, name)(*arguments)
        if error != 0:
            raise CudaError(f"{name} failed with error {error}")


def main() -> int:
    """Follow the plan on stdin, and print when it really happened."""
    start = float(sys.argv[1])
    plan = [line.split() for line in sys.stdin]
    try:
        gpu = Gpu()
    except CudaError as error:
        print(f"load: {error}", file=sys.stderr)
        return 1
    for start_s, end_s, *size_mib in plan:
        time.sleep(max(0.0, start + float(start_s) - time.time()))
        began = time.time()
        # Late: the end stays as planned.
        if size_mib:
            gpu.hold(int(size_mib[0]), start + float(end_s))
        else:
            gpu.spin(start + float(end_s) - began)
        print(f"{began:.6f} {time.time():.6f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
