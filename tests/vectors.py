"""Samples of what sacct and seff print, each with what is to be read from it; they lie outside of the repository."""

import os
from pathlib import Path

VECTORS = Path(os.environ.get("EVALMON_TEST_VECTORS") or Path(__file__).resolve().parents[2] / "shared" / "vectors")
