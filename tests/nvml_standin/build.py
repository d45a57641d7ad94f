"""Compiles the stand-in for libnvidia-ml.so.1, which the real nvidia-ml-py uses where there is no GPU."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_GCC = "gcc -std=gnu11 -O2 -Wall -Wextra -Werror -shared -fPIC"

# Symbols that a driver of 2020 (R450) did not have yet.
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
        without: symbols that this library must not have.
    """
    # A version script hides symbols without changes to the C source.
    hidden = "".join(f" {symbol};" for symbol in sorted(without))
    return _compile(_HERE, "libnvidia-ml.so.1", f"{{ global: nvml*; local:{hidden} *; }};\n", directory)


def build_cuda(directory: Path) -> Path:
    """The same for libcuda.so.1, which only the load of scripts/verify-gpu uses."""
    return _compile(_HERE.with_name("cuda_standin"), "libcuda.so.1", "{ global: cu*; local: *; };\n", directory)


def _compile(source: Path, name: str, version_script: str, directory: Path) -> Path:
    sources = sorted(source.glob("*.c"))
    texts = [path.read_bytes() for path in (*sources, *sorted(source.glob("*.h")))]
    key = hashlib.sha256(b"\0".join([*texts, version_script.encode(), _GCC.encode()])).hexdigest()[:16]
    folder = directory / key
    if (folder / name).exists():
        return folder
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        (Path(scratch) / "symbols.map").write_text(version_script)
        command = [*_GCC.split(), f"-Wl,-soname,{name},--version-script,{scratch}/symbols.map"]
        subprocess.run(
            [*command, "-o", f"{scratch}/{name}", *map(str, sources), "-lm", "-lpthread"], check=True, timeout=120
        )
        folder.mkdir(exist_ok=True)
        os.replace(f"{scratch}/{name}", folder / name)
    return folder
