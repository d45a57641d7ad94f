"""`evalmon template`: prints the packaged sbatch templates."""

from __future__ import annotations

import os

import click

from evalmon_agent.errors import UsageError

_ENDING = ".sbatch"


def _matching(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in names() if name.startswith(incomplete)]


@click.command("template")
@click.argument("name", required=False, shell_complete=_matching)
def command(name: str | None) -> None:
    """Print a packaged sbatch template; without NAME, list them."""
    click.echo("\n".join(names()) if name is None else text(name), nl=name is None)


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
        raise UsageError(f"no template {name!r}; available: {', '.join(names())}")
    with open(os.path.join(directory(), name + _ENDING), encoding="utf-8") as file:
        return file.read()
