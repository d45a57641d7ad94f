"""Defines the group of all commands: imports the one that is called, and exits with its status."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from evalmon_agent import __version__
from evalmon_agent.errors import BUG, INPUT_OUTPUT, NO_PERMISSION, EvalmonError, StoppedError, status_of
from evalmon_agent.files.pinned import shown
from evalmon_agent.words.printable import printable

COMMANDS = {
    "submit": "Submit evals, and the jobs that watch and summarise them.",
    "watch": "Adopt jobs that you submitted yourself.",
    "retry": "Resubmit evals that did not succeed, raising time or memory where it ran out.",
    "status": "Show whether the evals succeeded, what needs attention, and a table of all.",
    "report": "Write the summary of what is known, and print it: as Markdown, or as CSV with one row for each result.",
    "logs": "Show the end of what an eval's job printed.",
    "cancel": "Cancel the jobs of evals.",
    "drop": "Take evals off the books: no longer counted, retried or waited for.",
    "metrics": "Show the efficiency figures of finished jobs.",
    "stop": "Stop monitoring. Evals keep running.",
    "doctor": "Check the cluster and the file system, and say what to do.",
    "template": "Print a packaged sbatch template; without NAME, list them.",
    "notify": "Send the notifications that are due, or a test.",
    "sidecar": "Watch the evals live (the body of the sidecar job).",
    "complete": "Measure and summarise (the body of the completion job).",
}
"""The commands in `evalmon_agent/commands`, each in the module of its name, as its `command`."""

IN_JOBS = {
    "run": "Inside a job: run a command, monitored, and exit with its status.",
    "sample": "Inside a job: sample GPUs and host, without running anything.",
    "hook": "Print the line for scripts that monitor themselves.",
}
"""`__main__` runs these before it imports this module."""


class _ReaderGoneError(EvalmonError):
    """Who read the output has gone, so nobody reads a message either."""

    exit_status = INPUT_OUTPUT


class Group(click.Group):
    """The commands, each imported when it is called; every error is one line on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names."""
        del ctx
        return [*COMMANDS, *IN_JOBS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        del ctx
        if cmd_name in IN_JOBS:
            return click.Command(cmd_name, help=IN_JOBS[cmd_name], add_help_option=False)
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"evalmon_agent.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list for `--help` without importing a command."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items(), *IN_JOBS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names that begin so, and the group's own options, for which no command is imported."""
        names = {**COMMANDS, **IN_JOBS}
        matches = [CompletionItem(name, help=text) for name, text in names.items() if name.startswith(incomplete)]
        return matches + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; click itself would exit with 1 where the reader of the output has gone."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _ReaderGoneError from error

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
            sys.exit(_exit_status(error))


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="evalmon")
@click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")
def main() -> None:
    """The monitor for Slurm evaluation jobs. EXP is the directory of one study's evaluations."""


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})


def _exit_status(error: Exception) -> int:
    """The exit status of an error, after a line for each of its messages on stderr."""
    status = BUG
    lines = [f"{type(error).__name__}: {error}; this is a bug: run it again with evalmon --debug, and report that"]
    if isinstance(error, EvalmonError):
        status, lines = error.exit_status, error.lines
    elif isinstance(error, click.ClickException):
        status, lines = error.exit_code, [error.format_message() + _where_help_is(error)]
    elif isinstance(error, click.exceptions.Abort):
        status, lines = StoppedError.exit_status, ["interrupted"]
    elif isinstance(error, OSError):
        status, lines = status_of(error), [_what_the_system_says(error)]
    for line in lines:
        click.echo(f"evalmon: {printable(shown(line))}", err=True)
    _give_up_stdout()
    return status


def _what_the_system_says(error: OSError) -> str:
    """The file, the system's message, and what to do."""
    path = error.filename2 or error.filename  # of a rename, the file that was to be replaced
    where = f"{path}: " if path else ""
    advice = "run it again; if it fails again, evalmon doctor EXP checks the file system"
    if status_of(error) == NO_PERMISSION:
        advice = "ask the owner for access, or run it as the user who submitted the evals"
    elif error.errno in _NO_ROOM:
        advice = "free some space, then run it again"
    return f"{where}{error.strerror or error}; {advice}"


def _give_up_stdout() -> None:
    """Drop output that cannot be written: another try at the interpreter's exit would change the exit status."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _where_help_is(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f" See: {context.command_path} --help" if context is not None else ""
