"""Describes the machine and its load, which the figures depend on."""

import importlib.metadata
import os
import platform


def facts() -> dict[str, object]:
    """Load is the mean number of running processes in the last minute, including the bench's."""
    return {
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "nvidia_ml_py": importlib.metadata.version("nvidia-ml-py"),
    }
