"""Lists what the agent may record of the processes of each eval program, and where they write. Data.

Facts from inspect-ai 0.3.100 to 0.3.285 and lm_eval 0.4.10 to 0.4.13.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenFile:
    """A file that such a program keeps open while it runs, and that names logs.

    `path` fits its whole path. Its group `pid` must be the process's own; `log` is the name of a log that the process
    writes, and `directory` the SHA-256 of that log's directory as the program calls it. `logs`, in the file's content,
    finds paths or URLs of logs as JSON strings without their quotes.
    """

    path: re.Pattern[str]
    logs: re.Pattern[bytes] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WatchedProgram:
    """One program. Whatever of its command line is not listed here is never recorded: it may be a secret."""

    kind: str
    """What the kind of eval is called in evidence/kinds."""
    names: tuple[str, ...]
    """Of the console scripts."""
    modules: frozenset[str]
    """What stands behind `python -m`."""
    verbs: frozenset[str]
    """The first word of a command line that begins an eval; "" if an option may stand there as well."""
    no_eval: frozenset[str] = frozenset({"--help", "-h", "--version"})
    """With any of these words no eval begins."""
    no_eval_values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The same of a recorded option's values."""
    recorded: Mapping[str, str]
    """Options whose values are recorded, and under which name."""
    several: frozenset[str] = frozenset()
    """The names among them behind which more than one word may stand."""
    pairs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The names among them that hold `key=value,...`: the keys whose values are recorded."""
    flags: frozenset[str] = frozenset()
    """Options without a value; any other is taken to have one."""
    has_words: bool
    """Whether words that belong to no option name what is evaluated."""
    environment: tuple[str, ...] = ()
    """Variables that name the directory of its logs: the only ones that are recorded."""
    directory_option: str
    """The recorded option that names that directory, or a file in it."""
    default_directory: str | None
    """Where logs go without it, seen from the working directory; None: then none is written."""
    settings_option: str | None = None
    """The recorded option that names a file in which the directory may stand."""
    resuming_verbs: frozenset[str] = frozenset()
    """Verbs that write no log for what is complete in their directory already."""
    has_ranks: bool = False
    """Whether processes with the same command line and different ranks are one eval."""
    open_files: tuple[OpenFile, ...] = ()


_INSPECT_FLAGS = """
--json --detach --no-detach --trace --no-sandbox-cleanup --sandbox-prebuilt --no-epochs-reducer
--no-fail-on-error --continue-on-fail --score-on-error --no-log-samples --no-log-realtime --log-images
--no-log-images --log-model-api --no-log-model-api --log-refusals --no-log-refusals --no-score
--no-score-display --logprobs --parallel-tool-calls --no-parallel-tool-calls --internal-tools
--no-internal-tools --fail-on-refusal --no-fail-on-refusal --no-ansi --traceback-locals --debug --debug-errors
--retry-immediate --no-retry-immediate --no-retry-cleanup --bundle-overwrite --embed-viewer
--log-dir-allow-dirty
"""

INSPECT = WatchedProgram(
    kind="inspect-ai",
    names=("inspect",),
    modules=frozenset({"inspect_ai", "inspect_ai.__main__", "inspect_ai._cli.main"}),
    verbs=frozenset({"eval", "eval-set", "eval-retry"}),
    recorded={
        "--model": "model",
        "--log-dir": "log-dir",
        "--log-format": "log-format",
        "--limit": "limit",
        "--epochs": "epochs",
        "-M": "model-arg",
    },
    pairs={"model-arg": frozenset({"model_path", "tokenizer_path", "path", "revision", "dtype", "max_model_len"})},
    flags=frozenset(_INSPECT_FLAGS.split()),
    has_words=True,
    environment=("INSPECT_LOG_DIR",),
    directory_option="log-dir",
    default_directory="logs",
    resuming_verbs=frozenset({"eval-set"}),
    open_files=(
        OpenFile(
            path=re.compile(r".*/traces/trace-(?P<pid>\d+)\.log"),
            logs=re.compile(rb'"action": "Log Write", "detail": "((?:[^"\\]|\\.)*)"'),
        ),
        OpenFile(path=re.compile(r".*/samplebuffer/(?P<directory>[0-9a-f]{64})/(?P<log>[^/]+)\.(?P<pid>\d+)\.db")),
    ),
)

# lm_eval 0.4.10 and later: `lm_eval run --model ...`, `lm_eval ls tasks`; before, and still, `lm_eval --model ...`.
LM_EVAL = WatchedProgram(
    kind="lm-evaluation-harness",
    names=("lm_eval", "lm-eval"),
    modules=frozenset({"lm_eval", "lm_eval.__main__"}),
    verbs=frozenset({"run", ""}),
    no_eval_values={"tasks": frozenset({"list", "list_groups", "list_subtasks", "list_tags"})},
    recorded={
        "--model": "model",
        "-M": "model",
        "-m": "model",
        "--model_args": "model_args",
        "-a": "model_args",
        "--tasks": "tasks",
        "-t": "tasks",
        "--output_path": "output_path",
        "-o": "output_path",
        "--config": "config",
        "-C": "config",
        "--limit": "limit",
        "-L": "limit",
    },
    several=frozenset({"model_args", "tasks"}),
    pairs={"model_args": frozenset({"pretrained", "model", "path", "peft", "revision", "dtype", "max_length"})},
    has_words=False,
    directory_option="output_path",
    default_directory=None,
    settings_option="config",
    has_ranks=True,
)

WATCHED_PROGRAMS: tuple[WatchedProgram, ...] = (INSPECT, LM_EVAL)

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")
"""Variables that tell the processes of one parallel program apart."""
