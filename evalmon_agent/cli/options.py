"""Defines arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from evalmon_agent.experiment.experiment import Experiment

# ruff: noqa: PLC0415 - what has no experiment (`template`, `metrics`) starts without the parts that read one

F = TypeVar("F", bound=Callable[..., Any])


class ExperimentType(click.ParamType["Experiment"]):
    """The experiment's directory."""

    name = "EXP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Experiment:
        """An Experiment, or exit status 2."""
        from evalmon_agent.experiment.experiment import Experiment

        del param, ctx
        return value if isinstance(value, Experiment) else Experiment.at(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Directories."""
        return click.Path(file_okay=False).shell_complete(ctx, param, incomplete)


def experiment_argument(*, required: bool = True) -> Callable[[F], F]:
    """The EXP argument."""
    metavar = "EXP" if required else "[EXP]"
    return click.argument("experiment", type=ExperimentType(), metavar=metavar, required=required)


def names_argument(*, several: bool = True) -> Callable[[F], F]:
    """The NAME arguments: evals, arrays or globs."""
    metavar = "NAME..." if several else "NAME"
    return click.argument("names" if several else "name", nargs=-1 if several else 1, metavar=metavar, required=True)


def mode_option(command: F) -> F:
    """--mode: with or without a sidecar; None: by the settings."""
    choice = click.Choice(["sidecar", "dependency"])
    return click.option("--mode", type=choice, help="With or without a live sidecar job.")(command)


def json_option(command: F) -> F:
    """--json: only JSON on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def monitor_job_options(command: F) -> F:
    """--token: the submission of this monitor job; --experiment-id: its experiment, wherever the path leads."""
    return click.option("--token", hidden=True)(click.option("--experiment-id", hidden=True)(command))
