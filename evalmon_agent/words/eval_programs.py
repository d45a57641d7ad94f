"""Recognises the programs of evaluation frameworks by their command lines. Pure; standard library only, for the agent.

Only the options named here go on record, and no value that looks like a secret: command lines may hold keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class EvalProgram:
    """One framework's program."""

    kind: str
    scripts: frozenset[str]
    """What its console scripts are called."""
    modules: frozenset[str]
    """What `python -m` runs."""
    commands: frozenset[str]
    """The words behind it that begin an eval. With "", it also begins one where an option stands there."""
    options: Mapping[str, str]
    """What goes on record: each spelling of an option, and the name under which it is recorded."""
    listings: frozenset[tuple[str, str]] = frozenset()
    """Recorded options with which it only prints something."""


INSPECT = EvalProgram(
    kind="inspect-ai",
    scripts=frozenset({"inspect"}),
    modules=frozenset({"inspect_ai", "inspect_ai.__main__", "inspect_ai._cli.main"}),
    commands=frozenset({"eval", "eval-set", "eval-retry"}),
    options={
        **{f"--{name}": name for name in ("model", "log-dir", "log-format", "limit", "epochs", "sample-id", "seed")},
        "-T": "task-arg",
        "-M": "model-arg",
    },
)
# lm_eval 0.4.10 and later: `lm_eval run --model ...`, `lm_eval ls tasks`; before, and still, `lm_eval --model ...`.
LM_EVAL = EvalProgram(
    kind="lm-evaluation-harness",
    scripts=frozenset({"lm_eval", "lm-eval"}),
    modules=frozenset({"lm_eval", "lm_eval.__main__"}),
    commands=frozenset({"run", ""}),
    options={
        **{f"--{name}": name for name in ("model", "model_args", "tasks", "output_path", "config", "limit", "seed")},
        "-m": "model",
        "-M": "model",
        "-a": "model_args",
        "-t": "tasks",
        "-o": "output_path",
        "-C": "config",
        "-L": "limit",
    },
    listings=frozenset(
        {("tasks", "list"), ("tasks", "list_groups"), ("tasks", "list_subtasks"), ("tasks", "list_tags")}
    ),
)
PROGRAMS = (INSPECT, LM_EVAL)

_PYTHON = re.compile(r"(?:python|pypy)[\d.]*t?", re.ASCII)
_FLAGS_WITH_VALUE = "WX"
# `api_key=`, `hf_token=`, `https://user:password@host`, and what keys themselves look like.
_SECRET = re.compile(
    r"(?:^|[,_-])(?:api_?key|key|token|secret|passw\w*|auth\w*|credentials?)=|://[^/]*@|\b(?:sk-|hf_)\w{8}",
    re.IGNORECASE,
)
_TASK_FILE = re.compile(r"[^-=].*\.(?:py|ipynb|eval|json)(?:@\w+)?")
_WORD_LIMIT = 500
_WORDS_AT_MOST = 100


@dataclass(frozen=True, slots=True)
class EvalCommand:
    """A command that begins an eval: `tasks` as they are written, `options` by the names of its `EvalProgram`."""

    kind: str
    command: str
    tasks: tuple[str, ...] = ()
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def eval_command(argv: Sequence[str]) -> EvalCommand | None:
    """The eval that a process with these arguments runs; None for all others.

    The program itself, or the script or module of a Python interpreter, decides what a process is: shells, launchers,
    editors and `grep inspect eval` are none. `--help` and lists of tasks begin no eval.
    """
    program, words = _program(argv[:_WORDS_AT_MOST])
    if program is None or not {"--help", "-h"}.isdisjoint(words):
        return None
    command = words[0] if words and not words[0].startswith("-") else ""
    if command not in program.commands:
        return None
    words = words[1:] if command else words
    options: dict[str, tuple[str, ...]] = {}
    for name, value in _options(program, words):
        if (name, value) in program.listings:
            return None
        options[name] = (*options.get(name, ()), value)
    return EvalCommand(program.kind, command, tuple(_tasks(words)), options)


def _program(argv: Sequence[str]) -> tuple[EvalProgram | None, Sequence[str]]:
    """The framework that the process belongs to, and the words behind its name."""
    if not argv:
        return None, ()
    name, words, is_module = argv[0], argv[1:], False
    if _PYTHON.fullmatch(_last_part(name)):
        name, words, is_module = _run_by_python(words)
    for program in PROGRAMS:
        if name in program.modules if is_module else _last_part(name) in program.scripts:
            return program, words
    return None, ()


def _run_by_python(words: Sequence[str]) -> tuple[str, Sequence[str], bool]:
    """The script or module that an interpreter with these arguments runs, and the words behind it."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        flags = words[at][1:]
        at += 1
        for number, flag in enumerate(flags):
            if flag == "m":
                rest = flags[number + 1 :]
                return (rest, words[at:], True) if rest else ("".join(words[at : at + 1]), words[at + 1 :], True)
            if flag in ("c", "-"):
                return "", (), False
            if flag in _FLAGS_WITH_VALUE:
                at += number + 1 == len(flags)
                break
    return ("".join(words[at : at + 1]), words[at + 1 :], False)


def _options(program: EvalProgram, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """`--model x`, `--model=x`, `-T k=v`, `-Tk=v`."""
    for at, word in enumerate(words):
        spelled, equals, value = word.partition("=")
        if not word.startswith("--") and word[:2] in program.options and len(word) > 2:
            spelled, equals, value = word[:2], "=", word[2:]
        name = program.options.get(spelled)
        if name is None:
            continue
        if not equals:
            value = "".join(words[at + 1 : at + 2])
        if not _SECRET.search(value) and len(value) <= _WORD_LIMIT:
            yield name, value


def _tasks(words: Sequence[str]) -> Iterator[str]:
    """What stands before the first option, and files of tasks or logs behind it."""
    is_before_options = True
    for at, word in enumerate(words):
        is_before_options = is_before_options and not word.startswith("-")
        is_value = at > 0 and words[at - 1].startswith("-") and "=" not in words[at - 1]
        if len(word) <= _WORD_LIMIT and (is_before_options or (not is_value and _TASK_FILE.fullmatch(word))):
            yield word


def _last_part(path: str) -> str:
    return path.rpartition("/")[2]
