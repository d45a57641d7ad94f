"""How does an error end a command: one line on stderr, the right exit status, a traceback only with --debug."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from evalmon_agent.errors import EvalmonError
from evalmon_agent.settings import FAST_POLLING, Settings
from evalmon_agent.store import settings as settings_file
from evalmon_agent.store.experiment import Experiment

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130


class Group(click.Group):
    """The commands, with our errors told in one line each."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command; every EvalmonError ends it with its exit status."""
        debug = "--debug" in sys.argv[1:]
        try:
            return super().main(*args, **{**kwargs, "standalone_mode": True})
        except EvalmonError as error:
            if debug:
                raise
            for line in str(error).splitlines():
                click.echo(f"evalmon: {line}", err=True)
            sys.exit(error.exit_status)
        except BrokenPipeError:
            # Whoever read our output has gone: nothing more is to be said, also not at interpreter exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except OSError as error:
            if debug:
                raise
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"evalmon: {where}{error.strerror or error}", err=True)
            sys.exit(1)


class ExperimentType(click.ParamType[Experiment]):
    """The experiment's directory."""

    name = "EXP"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Experiment:
        """An Experiment, or exit status 2."""
        del param, ctx
        return value if isinstance(value, Experiment) else Experiment.at(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Directories."""
        return click.Path(file_okay=False).shell_complete(ctx, param, incomplete)


def load_settings(experiment: Experiment, *, for_reading: bool = False) -> Settings:
    """The experiment's settings (exit status 78 if they cannot be used).

    `for_reading`: fast polling was allowed or not where the experiment was submitted; it is not asked again.
    """
    environ = {**os.environ, FAST_POLLING: "1"} if for_reading else os.environ
    return settings_file.load(experiment.settings, environ=environ)


def experiment_argument(command: F) -> F:
    """The EXP argument."""
    return click.argument("experiment", type=ExperimentType(), metavar="EXP")(command)


def json_option(command: F) -> F:
    """--json: only JSON on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def token_option(command: F) -> F:
    """--token: which submission of ours this job is; it need only stand in the command line."""
    return click.option("--token", expose_value=False, hidden=True)(command)
