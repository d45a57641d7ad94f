"""Checks whether somebody else can rename or replace the experiment."""

from __future__ import annotations

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


def _also(others: list[Exposed]) -> str:
    return f" (the same holds for {', '.join(one.path for one in others)})" if others else ""
