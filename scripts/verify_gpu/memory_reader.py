"""Reads the memory used of one GPU 50 times a second: what is true, for `verify-gpu --peaks`.

    python -m verify_gpu.memory_reader UUID > WHAT-WAS

A line `UNIX-SECONDS MIB` for each read, until SIGTERM.
"""

import contextlib
import signal
import sys
import time

import pynvml

_EVERY_S = 0.02


def main() -> None:
    """Read until SIGTERM."""
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByUUID(sys.argv[1])
    due_s = time.monotonic()
    while True:
        used_mib = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2).used // 2**20
        print(f"{time.time():.3f} {used_mib}", flush=True)
        due_s = max(due_s + _EVERY_S, time.monotonic())
        time.sleep(max(0.0, due_s - time.monotonic()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        main()
