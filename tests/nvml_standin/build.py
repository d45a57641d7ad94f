"""Compiles our stand-in for libnvidia-ml.so.1: what the real nvidia-ml-py talks to where there is no GPU."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

_SOURCES = Path(__file__).resolve().parent
_NAME = "libnvidia-ml.so.1"
_GCC = "gcc -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC -fvisibility=hidden"

# What a driver of 2020 (R450) did not have yet.
OLD_DRIVER = (
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetTemperatureV",
    "nvmlGpmMetricsGet",
    "nvmlGpmMigSampleGet",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleAlloc",
    "nvmlGpmSampleFree",
    "nvmlGpmSampleGet",
)


def build(directory: Path, *, without: Iterable[str] = ()) -> Path:
    """A folder below `directory` that holds the library, for LD_LIBRARY_PATH; compiled unless it is there already.

    Args:
        directory: where the builds are.
        without: symbols that this library shall not have.
    """
    # A version script hides symbols without a word about them in the C source.
    hidden = "".join(f" {symbol};" for symbol in sorted(without))
    script = f"{{ global: nvml*; local:{hidden} *; }};\n"
    sources = sorted(_SOURCES.glob("*.c"))
    texts = [path.read_bytes() for path in (*sources, *sorted(_SOURCES.glob("*.h")))]
    key = hashlib.sha256(b"\0".join([*texts, script.encode(), _GCC.encode()])).hexdigest()[:16]
    folder = directory / key
    if (folder / _NAME).exists():
        return folder
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        (Path(scratch) / "symbols.map").write_text(script)
        command = [*_GCC.split(), f"-Wl,-soname,{_NAME},--version-script,{scratch}/symbols.map"]
        command += ["-o", f"{scratch}/{_NAME}", *map(str, sources), "-lm", "-lpthread"]
        subprocess.run(command, check=True, timeout=120)
        folder.mkdir(exist_ok=True)
        os.replace(f"{scratch}/{_NAME}", folder / _NAME)
    return folder
