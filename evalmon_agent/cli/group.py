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
from evalmon_agent.errors import BUG, INPUT_OUTPUT, NO_PERMISSION, EvalmonError, StoppedError, did_you_mean, status_of
from evalmon_agent.files.pinned import shown
from evalmon_agent.words.printable import printable

GROUPS = {
    "Run evals": {
        "submit": "Submit evals, and the jobs that watch and summarise them.",
        "watch": "Adopt jobs that you submitted yourself.",
        "retry": "Resubmit evals that did not succeed, raising time or memory where it ran out.",
        "cancel": "Cancel the jobs of evals.",
        "drop": "Give evals up: they are no longer counted, retried or waited for.",
        "stop": "Stop monitoring. Evals keep running.",
    },
    "See what happened": {
        "status": "Show whether the evals succeeded, what needs attention, and a table of all.",
        "report": "Write the summary of what is known, and print it.",
        "logs": "Show the end of what an eval's job printed.",
        "metrics": "Show the efficiency figures of finished jobs.",
    },
    "Set up": {
        "doctor": "Check the cluster and the file system, and say what to do.",
        "template": "Print a packaged sbatch template; without NAME, list them.",
        "notify": "Send the notifications that are due, or a test.",
    },
    "Inside a job": {
        "run": "Run a command, monitored, and exit with its status.",
        "hook": "Print the line for scripts that monitor themselves.",
        "sample": "Sample GPUs and host, without running anything.",
    },
    "Started by evalmon itself": {
        "sidecar": "Watch the evals live (the body of the sidecar job).",
        "complete": "Measure and summarise (the body of the completion job).",
    },
}
"""What `--help` lists: each command with its text."""

_IN_JOBS_TITLE = "Inside a job"
IN_JOBS = GROUPS[_IN_JOBS_TITLE]
"""`__main__` runs these before it imports this module."""

COMMANDS = {name: text for title, group in GROUPS.items() if title != _IN_JOBS_TITLE for name, text in group.items()}
"""The commands in `evalmon_agent/commands`, each in the module of its name, as its `command`."""

EXAMPLES = {
    "submit": "evalmon submit ~/studies/capitalization",
    "watch": "evalmon watch ~/studies/capitalization --match 'eval_*'",
    "retry": "evalmon retry ~/studies/capitalization --cause time-limit",
    "cancel": "evalmon cancel 'r16/*'",
    "drop": "evalmon drop r16/cap/epoch0",
    "stop": "evalmon stop ~/studies/capitalization",
    "status": "evalmon status --failed",
    "report": "evalmon report --format csv > results.csv",
    "logs": "evalmon logs r16/cap/epoch0 --error",
    "metrics": "evalmon metrics 12345690 12345691_4",
    "doctor": "evalmon doctor ~/studies/capitalization",
    "template": "evalmon template inspect-eval > cell.slurm",
    "notify": "evalmon notify ~/studies/capitalization --test",
}
"""One for the help of each command that people type."""


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
        command.epilog = f"Example: {EXAMPLES[cmd_name]}" if cmd_name in EXAMPLES else None
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command; of an unknown one the error names the nearest."""
        name = args[0]
        if name.startswith("-") or name in COMMANDS or name in IN_JOBS:
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"No such command {name!r}{did_you_mean(name, [*COMMANDS, *IN_JOBS])}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list for `--help` without importing a command."""
        del ctx
        for title, commands in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([*commands.items()])

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
        except Exception as error:  # noqa: BLE001 - no traceback without --debug, also of a bug in evalmon
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
    if status == StoppedError.exit_status and sys.stderr.isatty():
        click.echo(err=True)  # the terminal has written ^C
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
