"""Checks whether somebody else can rename or replace the experiment, or read the URLs in its settings."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import PurePath

from evalmon_agent.errors import UnsafeDirectoryError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.permissions import Exposed, exposed
from evalmon_agent.settings import Settings


def refuse_world_writable(experiment: Experiment, settings: Settings) -> None:
    """UnsafeDirectoryError if anybody could replace the experiment, unless a setting allows that."""
    worst = next((place for place in exposed(experiment.root) if place.by_anybody), None)
    if worst is not None and not settings.allow_world_writable:
        raise UnsafeDirectoryError(
            f"{worst.path}: anybody can rename and replace what lies there; {worst.advice}; or set "
            f"allow_world_writable: true in {experiment.settings}"
        )


def exposure(experiment: Experiment) -> tuple[str, str] | None:
    """What others can do there, and what prevents it; None if they can do nothing."""
    places = list(exposed(experiment.root))
    if not places:
        return None
    nearest = places[0]
    line = (
        f"{nearest.path}: {nearest.whom} can rename and replace what lies there; nothing of theirs is run or believed, "
        "but they can end the monitoring"
    )
    return line, f"to prevent that, {nearest.advice}{_also(places[1:])}"


def readable_urls(experiment: Experiment, settings: Settings) -> tuple[str, str] | None:
    """That others can read the URLs of `notify`, and what prevents it; None if nobody can, or there are none."""
    path = experiment.settings
    try:
        mode = os.stat(path).st_mode if settings.notify else 0
        on_the_way = [os.stat(parent).st_mode for parent in PurePath(path).parents]
    except OSError:
        return None
    by_anybody = mode & stat.S_IROTH and all(above & stat.S_IXOTH for above in on_the_way)
    by_the_group = mode & stat.S_IRGRP and on_the_way[0] & stat.S_IXGRP
    if not (by_anybody or by_the_group):
        return None
    whom = "anybody" if by_anybody else "its group"
    return (
        f"{path}: {whom} can read the URLs of notify, which may hold passwords",
        f"run: chmod 600 {shlex.quote(path)}",
    )


def _also(others: list[Exposed]) -> str:
    return f" (the same holds for {', '.join(one.path for one in others)})" if others else ""
