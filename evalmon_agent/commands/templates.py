"""`evalmon template`: the packaged sbatch templates."""

from __future__ import annotations

import os

from evalmon_agent.errors import UsageError

_ENDING = ".sbatch"


def directory() -> str:
    """Where the templates are: in the installed package, or, in a checkout, beside it."""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    inside = os.path.join(package, "sbatch_templates")
    return inside if os.path.isdir(inside) else os.path.join(os.path.dirname(package), "sbatch_templates")


def names() -> list[str]:
    """All templates, by the names that `text` takes."""
    return sorted(f.removesuffix(_ENDING) for f in os.listdir(directory()) if f.endswith(_ENDING))


def text(name: str) -> str:
    """One template; UsageError names those that there are."""
    if name not in names():
        raise UsageError(f"no template {name!r}; there are: {', '.join(names())}")
    with open(os.path.join(directory(), name + _ENDING), encoding="utf-8") as file:
        return file.read()
