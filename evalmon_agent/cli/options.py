"""The arguments and options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from evalmon_agent.experiment.experiment import Experiment
    from evalmon_agent.settings import Settings

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


def mode_option(command: F) -> F:
    """--mode: with a sidecar or without; None: as the settings say."""
    choice = click.Choice(["sidecar", "dependency"])
    return click.option("--mode", type=choice, help="With or without a live sidecar job.")(command)


def json_option(command: F) -> F:
    """--json: only JSON on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def monitor_job_options(command: F) -> F:
    """--token: which submission this monitor job is; --experiment-id: of which experiment, wherever its path leads."""
    return click.option("--token", hidden=True)(click.option("--experiment-id", hidden=True)(command))


def load_settings(experiment: Experiment, *, for_reading: bool = False) -> Settings:
    """The experiment's settings (exit status 78 if they cannot be used).

    `for_reading`: fast polling was allowed or not where the experiment was submitted; it is not asked again. Another
    user's experiment is read with that user's settings.
    """
    from evalmon_agent.experiment import settings as settings_file
    from evalmon_agent.settings import FAST_POLLING

    environ = {**os.environ, FAST_POLLING: "1"} if for_reading else os.environ
    return settings_file.load(experiment.settings, environ=environ, owner=experiment.owner if for_reading else None)


def settings_of_monitor_job(experiment: Experiment, token: str | None) -> tuple[Settings, str]:
    """For the body of a monitor job: where the settings cannot be used, those of its submission, and why."""
    from evalmon_agent.experiment import settings as settings_file

    kept = experiment.kept_settings(token) if token is not None else None
    return settings_file.load_or_kept(experiment.settings, kept=kept, environ=os.environ)
