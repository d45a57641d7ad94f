"""What one process works with: an experiment, its settings, Slurm, the environment, and the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm


@dataclass(frozen=True, slots=True)
class Session:
    """`environ` is passed to Slurm's commands and the monitor jobs; `clock` returns epoch seconds.

    If the settings change while a process runs, it continues with a new session (`dataclasses.replace`).
    """

    experiment: Experiment
    settings: Settings
    slurm: Slurm
    environ: Mapping[str, str]
    clock: Callable[[], float] = time.time
