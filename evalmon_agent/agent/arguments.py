"""Parses the arguments of `evalmon run`, `evalmon hook` and `evalmon sample`. Pure."""

from __future__ import annotations

import argparse
from functools import partial
from typing import NoReturn

from evalmon_agent.errors import UsageError
from evalmon_agent.words.printable import printable

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


class Arguments(argparse.Namespace):
    """The options of `run`, `hook` or `sample`, and the command behind them. None: not given.

    No dataclass, as in all that `run` imports before it starts the command: that module alone takes 9 ms [ran].
    """

    name: str | None = None
    output_dir: str | None = None
    dir: str | None = None
    experiment_id: str | None = None
    token: str | None = None
    sample_interval_s: float | None = None
    is_script: bool = False
    wants_help: bool = False
    command: list[str]


def parse_run(argv: list[str]) -> Arguments:
    """Options up to the first other word or `--`, then the command.

    Raises:
        UsageError: an unknown option, a missing or unusable value, no command.
    """
    parser = _Parser("run", "--name", "--output-dir", "--dir", "--experiment-id", "--token")
    parser.add_argument("--sample-interval", dest="sample_interval_s", type=_seconds)
    parser.add_argument("--script", dest="is_script", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args(argv, Arguments())
    if arguments.command[:1] == ["--"]:
        arguments.command.pop(0)
    if not arguments.command and not arguments.wants_help:
        parser.error("no command given")
    return arguments


def parse_hook(argv: list[str]) -> Arguments:
    """Options only.

    Raises:
        UsageError: an unknown option, a missing value, a further word.
    """
    return _Parser("hook", "--name", "--output-dir").parse_args(argv, Arguments())


def parse_sample(argv: list[str]) -> Arguments:
    """Options only; `output_dir` is there.

    Raises:
        UsageError: an unknown option, a missing or unusable value, a further word.
    """
    parser = _Parser("sample", "--output-dir")
    parser.add_argument("--interval", dest="sample_interval_s", type=_seconds)
    arguments = parser.parse_args(argv, Arguments())
    if not arguments.output_dir and not arguments.wants_help:
        parser.error("--output-dir is missing")
    return arguments


class _Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print and exit."""

    def __init__(self, command: str, *options: str) -> None:
        # With a width argparse need not import shutil, and the compressors with it, to find out the terminal's.
        formatter = partial(argparse.HelpFormatter, width=80)
        super().__init__(f"evalmon {command}", add_help=False, allow_abbrev=False, formatter_class=formatter)
        self.add_argument("-h", "--help", dest="wants_help", action="store_true")
        for option in options:
            self.add_argument(option)

    def error(self, message: str) -> NoReturn:
        raise UsageError(printable(f"{self.prog}: {message}; see {self.prog} --help"))


def _seconds(text: str) -> float | None:
    """None for an empty text: a script's variable that is not set."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= _A_DAY_S:
        raise argparse.ArgumentTypeError(f"{text} is not within 1 and 86400 seconds")
    return seconds
