"""Defines arguments and options that several commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

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


class CommandOnExperiment(click.Command):
    """A command whose EXP may be left out: the first word is EXP only if it is an experiment's directory.

    Otherwise the nearest experiment at or above the working directory is meant, and named on stderr.
    """

    def __init__(self, *args: Any, is_needed: bool = True, **kwargs: Any) -> None:
        """`is_needed`: whether the command needs an experiment."""
        super().__init__(*args, **kwargs)
        self.params.insert(0, _FirstWord(["experiment"], metavar="[EXP]", required=False))
        self._is_needed = is_needed

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Decide what the first word is. UsageError if there is no experiment, or a name is missing."""
        rest = super().parse_args(ctx, args)
        if ctx.resilient_parsing:
            return rest  # the shell asks what may come next
        word = ctx.params["experiment"]
        places = [p.name for p in self.params if isinstance(p, click.Argument) and p.name in {"name", "names"}]
        if word is not None and (not places or _is_experiment(word)):
            ctx.params["experiment"] = ExperimentType().convert(word, None, ctx)
        else:
            if word is not None:
                _put_first(ctx.params, places[0], word)
            ctx.params["experiment"] = _nearest(is_needed=self._is_needed)
        if places and not ctx.params[places[0]]:
            raise click.UsageError("Missing argument 'NAME'.", ctx)
        return rest


def _put_first(params: dict[str, Any], place: str, word: str) -> None:
    if place == "names":
        params[place] = (word, *params[place])
    elif params[place] is None:
        params[place] = word
    else:
        raise click.UsageError(f"{word} is not an experiment's directory; give EXP and one NAME")


def _is_experiment(path: str) -> bool:
    from evalmon_agent.agent.report import is_experiment

    return is_experiment(path)


def _nearest(*, is_needed: bool) -> Experiment | None:
    from evalmon_agent.agent.report import nearest_experiment

    root = nearest_experiment(os.getcwd())
    if root is not None:
        return _found(root)
    if is_needed:
        raise click.UsageError("there is no experiment at or above the working directory; give its directory, EXP")
    return None


def _found(root: str) -> Experiment:
    from evalmon_agent.experiment.experiment import Experiment
    from evalmon_agent.words.printable import printable

    click.echo(f"experiment: {printable(root)}", err=True)
    return Experiment.at(root)


class _FirstWord(click.Argument):
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Directories; before them the evals of the nearest experiment, where a name may stand here."""
        names = complete_names(ctx, incomplete) if any(isinstance(p, _Names) for p in ctx.command.params) else []
        return names + ExperimentType().shell_complete(ctx, self, incomplete)


def experiment_argument() -> Callable[[F], F]:
    """The EXP argument."""
    return click.argument("experiment", type=ExperimentType(), metavar="EXP")


def experiment_and_scripts(words: Sequence[str]) -> tuple[Experiment, Sequence[str]]:
    """EXP, and the scripts after it. Without EXP the working directory must be the experiment's own."""
    from evalmon_agent.experiment.experiment import Experiment

    if not (words and os.path.isdir(words[0])) and _is_experiment(os.getcwd()):
        return _found(os.getcwd()), words
    if not words:
        raise click.UsageError("the working directory is not an experiment's; give the experiment's directory, EXP")
    return Experiment.at(words[0]), words[1:]


def names_argument(*, several: bool = True) -> Callable[[F], F]:
    """The NAME arguments of a CommandOnExperiment: evals, arrays or globs."""
    if several:
        return click.argument("names", cls=_Names, nargs=-1, metavar="NAME...")
    return click.argument("name", cls=_Names, metavar="NAME", required=False)


class _Names(click.Argument):
    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """The names of the experiment's evals that begin so."""
        return complete_names(ctx, incomplete)


def complete_names(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """The names of evals of the experiment on the command line, else of the nearest; none where that fails."""
    from evalmon_agent.agent.report import nearest_experiment
    from evalmon_agent.errors import EvalmonError
    from evalmon_agent.experiment import state
    from evalmon_agent.experiment.experiment import Experiment

    word = ctx.params.get("experiment")
    root = word if isinstance(word, str) and _is_experiment(word) else nearest_experiment(os.getcwd())
    try:
        saved = state.load(Experiment.at(root)) if root is not None else None
    except (EvalmonError, OSError):
        return []
    return [CompletionItem(name) for name in saved.names if name.startswith(incomplete)] if saved is not None else []


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
