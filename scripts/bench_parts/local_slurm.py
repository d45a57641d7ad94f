"""Provides a local Slurm (scripts/slurm-dev) for a measurement: one that runs already, or a temporary one."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SLURM_DEV = Path(__file__).resolve().parents[1] / "slurm-dev"


@contextmanager
def environ(scratch: Path, given: str | None) -> Iterator[dict[str, str]]:
    """The environment of its user, who may poll fast."""
    directory = Path(given) if given else scratch / "slurm"
    if not given:
        subprocess.run([_SLURM_DEV, "up", "--dir", directory], check=True, stdout=subprocess.DEVNULL)
    try:
        said = subprocess.run([_SLURM_DEV, "env", "--dir", directory], check=True, capture_output=True, text=True)
        shell = ["bash", "-c", f"{said.stdout}\nenv -0"]
        pairs = subprocess.run(shell, check=True, capture_output=True, text=True).stdout.split("\0")
        yield {**dict(pair.split("=", 1) for pair in pairs if "=" in pair), "EVALMON_ALLOW_FAST_POLLING": "1"}
    finally:
        if not given:
            subprocess.run([_SLURM_DEV, "down", "--dir", directory], check=True, stdout=subprocess.DEVNULL)
