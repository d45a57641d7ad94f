"""Can somebody else rename or replace the experiment?"""

from __future__ import annotations

from evalmon_agent.errors import UnsafeDirectoryError
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.permissions import Exposed, exposed
from evalmon_agent.settings import Settings


def refuse_world_writable(experiment: Experiment, settings: Settings) -> None:
    """UnsafeDirectoryError where anybody could replace the experiment, unless a setting allows it."""
    found = next((one for one in exposed(experiment.root) if one.by_anybody), None)
    if found is not None and not settings.allow_world_writable:
        raise UnsafeDirectoryError(
            f"{found.path}: anybody can rename and replace what lies there; {found.advice}; or set "
            f"allow_world_writable: true in {experiment.settings}"
        )


def exposure(experiment: Experiment) -> tuple[str, str] | None:
    """What others can do there, and what prevents it; None if there is nothing that they can."""
    found = list(exposed(experiment.root))
    if not found:
        return None
    nearest = found[0]
    line = (
        f"{nearest.path}: {nearest.whom} can rename and replace what lies there; nothing of theirs is run or believed, "
        "but they can end the monitoring"
    )
    return line, f"to prevent that, {nearest.advice}{_also(found[1:])}"


def _also(others: list[Exposed]) -> str:
    return f" (the same holds for {', '.join(one.path for one in others)})" if others else ""
