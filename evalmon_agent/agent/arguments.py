"""Parses the arguments of `evalmon run`, `evalmon hook` and `evalmon sample`. Pure."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field

from evalmon_agent.errors import UsageError

RUN_HELP = """\
Usage: evalmon run [OPTIONS] [--] CMD...

  Runs CMD monitored and ends as CMD ended: same exit status, or the same signal.
  Inside a Slurm job it reports start and end to the experiment's evalmon
  directory; outside it runs CMD and says that nothing is reported.

Options:
  --name NAME       The evaluation's name (default: EVALMON_NAME).
  --output-dir DIR  Where its metrics go (default: EVALMON_OUTPUT_DIR).
  -h, --help        Show this message and exit.

  Used by evalmon's launcher: --script (CMD is a script, run by its own first
  line), --dir DIR (default: EVALMON_DIR), --token TOKEN,
  --experiment-id ID, --sample-interval SECONDS.
"""

HOOK_HELP = """\
Usage: evalmon hook [OPTIONS]

  Prints the line that makes a batch script monitor itself. Write this right below its #SBATCH lines (on a terminal,
  evalmon hook prints it):

      eval "$(evalmon hook)"

Options:
  --name NAME       The evaluation's name (default: EVALMON_NAME).
  --output-dir DIR  Where its metrics go (default: EVALMON_OUTPUT_DIR).
  -h, --help        Show this message and exit.
"""

SAMPLE_HELP = """\
Usage: evalmon sample --output-dir DIR [--interval SECONDS]

  Samples the job's GPUs and its use of this node into DIR/gpu_metrics.csv and
  DIR/host_metrics.csv, until it gets TERM, INT or HUP, or its parent is
  gone. `evalmon run` and `evalmon hook` do this by themselves.

Options:
  --output-dir DIR    Where the files go.
  --interval SECONDS  From one sample to the next (default: 30).
  -h, --help          Show this message and exit.
"""

_A_DAY_S = 86400


@dataclass(slots=True)
class Arguments:
    """The options of `run`, `hook` or `sample`, and the command behind them. None: not given, or given empty."""

    name: str | None = None
    output_dir: str | None = None
    dir: str | None = None
    experiment_id: str | None = None
    token: str | None = None
    sample_interval_s: float | None = None
    is_script: bool = False
    wants_help: bool = False
    command: list[str] = field(default_factory=list)


def parse_run(argv: list[str]) -> Arguments:
    """Options up to the first other word or `--`, then the command.

    Raises:
        UsageError: an unknown option, a missing or unusable value, no command.
    """
    parser = _Parser("run")
    for option in ("--name", "--output-dir", "--dir", "--experiment-id", "--token"):
        parser.add_text(option)
    parser.add_interval("--sample-interval")
    parser.add_argument("--script", dest="is_script", action="store_true", default=argparse.SUPPRESS)
    arguments = parser.parse(argv)
    if not arguments.command and not arguments.wants_help:
        raise UsageError("evalmon run: no command given; see evalmon run --help")
    return arguments


def parse_hook(argv: list[str]) -> Arguments:
    """Options only.

    Raises:
        UsageError: an unknown option, a missing value, a further word.
    """
    parser = _Parser("hook")
    parser.add_text("--name")
    parser.add_text("--output-dir")
    return parser.parse_options_only(argv)


def parse_sample(argv: list[str]) -> Arguments:
    """Options only; `output_dir` is there.

    Raises:
        UsageError: an unknown option, a missing or unusable value, a further word.
    """
    parser = _Parser("sample")
    parser.add_text("--output-dir")
    parser.add_interval("--interval")
    arguments = parser.parse_options_only(argv)
    if not arguments.output_dir and not arguments.wants_help:
        raise UsageError("evalmon sample: --output-dir is missing; see evalmon sample --help")
    return arguments


class _Parser(argparse.ArgumentParser):
    """Fills `Arguments`; an option that is not given leaves its default there."""

    def __init__(self, program: str) -> None:
        super().__init__(f"evalmon {program}", add_help=False, allow_abbrev=False, exit_on_error=False)
        self.add_argument("-h", "--help", dest="wants_help", action="store_true", default=argparse.SUPPRESS)
        self.add_argument("command", nargs=argparse.REMAINDER)

    def add_text(self, option: str) -> None:
        self.add_argument(option, type=lambda text: text or None, default=argparse.SUPPRESS)

    def add_interval(self, option: str) -> None:
        seconds = _seconds(f"{self.prog}: {option}")
        self.add_argument(option, dest="sample_interval_s", type=seconds, default=argparse.SUPPRESS)

    def parse(self, argv: list[str]) -> Arguments:
        try:
            arguments, unknown = self.parse_known_args(argv, Arguments())
        except argparse.ArgumentError as error:
            is_flag = "ignored explicit" in error.message
            trouble = f"unknown option {error.argument_name!r}" if is_flag else f"{error.argument_name} needs a value"
            raise UsageError(f"{self.prog}: {trouble}; see {self.prog} --help") from None
        if unknown:
            raise UsageError(f"{self.prog}: unknown option {unknown[0].partition('=')[0]!r}; see {self.prog} --help")
        if arguments.command[:1] == ["--"]:
            arguments.command.pop(0)
        return arguments

    def parse_options_only(self, argv: list[str]) -> Arguments:
        arguments = self.parse(argv)
        if arguments.command:
            raise UsageError(f"{self.prog}: unexpected word {arguments.command[0]!r}; see {self.prog} --help")
        return arguments


def _seconds(what: str) -> Callable[[str], float | None]:
    def parse(text: str) -> float | None:
        if not text:
            return None
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not 1 <= seconds <= _A_DAY_S:
            raise UsageError(f"{what} is {text!r}; give seconds, from 1 to 86400")
        return seconds

    return parse
