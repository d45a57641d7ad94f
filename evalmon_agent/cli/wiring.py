"""How does an error end a command: one line on stderr, the right exit status, a traceback only with --debug."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import click

from evalmon_agent.errors import EvalmonError
from evalmon_agent.experiment import settings as settings_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.pinned import shown
from evalmon_agent.settings import FAST_POLLING, Settings
from evalmon_agent.words.printable import printable

F = TypeVar("F", bound=Callable[..., Any])
INTERRUPTED = 130


class Group(click.Group):
    """The commands, with every error told in one line."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and end with its exit status."""
        try:
            sys.exit(super().main(*args, **{**kwargs, "prog_name": "evalmon", "standalone_mode": False}))
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except Exception as error:  # noqa: BLE001 - no traceback without --debug, also of a bug of ours
            if "--debug" in sys.argv[1:]:
                traceback.print_exc()
            sys.exit(_told(error))


def _told(error: Exception) -> int:
    """Say on stderr what went wrong, a line for each thing; the exit status."""
    status = 1
    lines = [str(error)]
    if isinstance(error, EvalmonError):
        status, lines = error.exit_status, error.lines
    elif isinstance(error, click.ClickException):
        status, lines = error.exit_code, [error.format_message() + _help(error)]
    elif isinstance(error, click.exceptions.Abort):
        status, lines = INTERRUPTED, ["interrupted"]
    elif isinstance(error, BrokenPipeError):
        lines = []  # whoever read our output has gone
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        lines = [f"{where}{error.strerror or error}"]
    else:
        lines = [f"{type(error).__name__}: {error}; this is a bug: run it again with evalmon --debug, and report that"]
    for line in lines:
        click.echo(f"evalmon: {printable(shown(line))}", err=True)
    _give_up_stdout()
    return status


def _give_up_stdout() -> None:
    """What cannot be printed is not tried again at the interpreter's exit, which would change the exit status."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f" See: {context.command_path} --help" if context is not None else ""


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

    `for_reading`: fast polling was allowed or not where the experiment was submitted; it is not asked again. Another
    user's experiment is read with that user's settings.
    """
    environ = {**os.environ, FAST_POLLING: "1"} if for_reading else os.environ
    return settings_file.load(experiment.settings, environ=environ, owner=experiment.owner if for_reading else None)


def settings_of_our_job(experiment: Experiment, token: str | None) -> tuple[Settings, str]:
    """For the body of a job of ours: where the settings cannot be used, those of its submission, and why."""
    kept = experiment.kept_settings(token) if token is not None else None
    return settings_file.load_or_kept(experiment.settings, kept=kept, environ=os.environ)


def experiment_argument(*, required: bool = True) -> Callable[[F], F]:
    """The EXP argument."""
    metavar = "EXP" if required else "[EXP]"
    return click.argument("experiment", type=ExperimentType(), metavar=metavar, required=required)


def json_option(command: F) -> F:
    """--json: only JSON on stdout."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def options_of_our_job(command: F) -> F:
    """--token: which submission of ours this job is; --experiment-id: of which experiment, wherever its path leads."""
    return click.option("--token", hidden=True)(click.option("--experiment-id", hidden=True)(command))
