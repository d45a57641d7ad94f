"""What `evalmon run` and `evalmon hook` were asked to do. Pure; by hand, since argparse costs 9 ms."""

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

  Prints the line that makes a batch script monitor itself. Write this right below its #SBATCH lines:

      eval "$(evalmon hook)"

Options:
  --name NAME       The evaluation's name (default: EVALMON_NAME).
  --output-dir DIR  Where its metrics go (default: EVALMON_OUTPUT_DIR).
  -h, --help        Show this message and exit.
"""

SAMPLE_HELP = """\
Usage: evalmon sample --output-dir DIR [--interval SECONDS]

  Samples the job's GPUs and its use of this node into DIR/gpu_metrics.csv and
  DIR/host_metrics.csv, until it is told to end (TERM, INT, HUP) or its parent is
  gone. `evalmon run` and `evalmon hook` do this by themselves.

Options:
  --output-dir DIR    Where the files go.
  --interval SECONDS  From one sample to the next (default: 30).
  -h, --help          Show this message and exit.
"""

_A_DAY_S = 86400

_HOOK_OPTIONS = frozenset({"--name", "--output-dir"})
_SAMPLE_OPTIONS = frozenset({"--output-dir", "--interval"})
_RUN_OPTIONS = _HOOK_OPTIONS | {"--dir", "--experiment-id", "--sample-interval", "--token"}
_HELP = frozenset({"-h", "--help"})
_RUN_FLAGS = _HELP | {"--script"}


class Arguments:
    """The options of `run` or `hook`, and the command behind them. None: not given, or given empty."""

    __slots__ = (
        "command",
        "dir",
        "experiment_id",
        "is_script",
        "name",
        "output_dir",
        "sample_interval_s",
        "token",
        "wants_help",
    )

    def __init__(self, values: dict[str, str], command: list[str]) -> None:
        self.name = values.get("--name") or None
        self.output_dir = values.get("--output-dir") or None
        self.dir = values.get("--dir") or None
        self.experiment_id = values.get("--experiment-id") or None
        self.token = values.get("--token") or None
        self.sample_interval_s = _interval(values, "run", "--sample-interval") or _interval(
            values, "sample", "--interval"
        )
        self.is_script = "--script" in values
        self.wants_help = not _HELP.isdisjoint(values)
        self.command = command


def parse_run(argv: list[str]) -> Arguments:
    """Options up to the first other word or `--`, then the command.

    Raises:
        UsageError: an unknown option, a missing or unusable value, no command.
    """
    arguments = Arguments(*_split(argv, program="run", valued=_RUN_OPTIONS, flags=_RUN_FLAGS))
    if not arguments.command and not arguments.wants_help:
        raise UsageError("evalmon run: no command given; see evalmon run --help")
    return arguments


def parse_hook(argv: list[str]) -> Arguments:
    """Options only.

    Raises:
        UsageError: an unknown option, a missing value, a further word.
    """
    arguments = Arguments(*_split(argv, program="hook", valued=_HOOK_OPTIONS, flags=_HELP))
    if arguments.command:
        raise UsageError(f"evalmon hook: unexpected word {arguments.command[0]!r}; see evalmon hook --help")
    return arguments


def parse_sample(argv: list[str]) -> Arguments:
    """Options only; `output_dir` is there.

    Raises:
        UsageError: an unknown option, a missing or unusable value, a further word.
    """
    arguments = Arguments(*_split(argv, program="sample", valued=_SAMPLE_OPTIONS, flags=_HELP))
    if arguments.command:
        raise UsageError(f"evalmon sample: unexpected word {arguments.command[0]!r}; see evalmon sample --help")
    if not arguments.output_dir and not arguments.wants_help:
        raise UsageError("evalmon sample: --output-dir is missing; see evalmon sample --help")
    return arguments


def _split(
    argv: list[str], *, program: str, valued: frozenset[str], flags: frozenset[str]
) -> tuple[dict[str, str], list[str]]:
    values: dict[str, str] = {}
    words = list(argv)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        option, equals, value = word.partition("=")
        if option in valued:
            if not equals and not words:
                raise UsageError(f"evalmon {program}: {option} needs a value; see evalmon {program} --help")
            values[option] = value if equals else words.pop(0)
        elif word in flags:
            values[word] = word
        else:
            raise UsageError(f"evalmon {program}: unknown option {option!r}; see evalmon {program} --help")
    return values, words


def _interval(values: dict[str, str], program: str, option: str) -> float | None:
    text = values.get(option)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= _A_DAY_S:
        raise UsageError(f"evalmon {program}: {option} is {text!r}; give seconds, from 1 to 86400")
    return seconds
