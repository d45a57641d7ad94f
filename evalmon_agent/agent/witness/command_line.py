"""Tells from a command line whether it runs an eval, and what of it may be recorded. Pure.

An interpreter's script or module decides: `python .../inspect eval` does, `grep inspect eval` does not. Only options
that the table lists are recorded, since any other may hold a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from evalmon_agent.words.eval_processes import WATCHED_PROGRAMS, WatchedProgram

_PYTHON = re.compile(r"(?:python|pypy)[\d.]*t?")
_FLAGS_WITH_VALUE = "WX"

LEFT_OUT = "..."
"""Stands for values that are not recorded."""

_VALUES_AT_MOST = 50
_VALUE_CHARACTERS = 500
# `https://user:secret@host/`
_CREDENTIALS = re.compile(r"://[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line of a known program.

    `begins_eval`: whether it runs one, rather than listing or helping. `words` are None where an unknown option makes
    it uncertain which they are.
    """

    program: WatchedProgram
    begins_eval: bool
    verb: str = ""
    words: tuple[str, ...] | None = ()
    options: dict[str, list[str]] = field(default_factory=dict)


def is_python(words: Sequence[str]) -> bool:
    """Whether this is a Python, which may run an eval without its command line saying so."""
    return bool(words) and _PYTHON.fullmatch(os.path.basename(words[0])) is not None


def parse(words: Sequence[str]) -> CommandLine | None:
    """The command line of a known program; None if it is another's."""
    program, rest = _program_of(words)
    if program is None:
        return None
    has_verb = bool(rest) and not rest[0].startswith("-")
    verb = rest[0] if has_verb else ""
    if verb not in program.verbs or not program.no_eval.isdisjoint(rest) or not rest:
        return CommandLine(program, begins_eval=False)
    reader = _Reader(program)
    reader.read(rest[1:] if has_verb else rest)
    options = {name: _shown(program, name, values) for name, values in reader.options.items()}
    lists = (not values.isdisjoint(options.get(name, ())) for name, values in program.no_eval_values.items())
    if any(lists):
        return CommandLine(program, begins_eval=False)
    return CommandLine(program, begins_eval=True, verb=verb, words=reader.positional_words(), options=options)


def without_credentials(value: str) -> str:
    """A path, URL or name without what stands before the `@` of a URL's host."""
    return _CREDENTIALS.sub("://", value)[:_VALUE_CHARACTERS]


def _program_of(words: Sequence[str]) -> tuple[WatchedProgram | None, Sequence[str]]:
    """The program and the words behind its name."""
    name, rest, is_module = "".join(words[:1]), words[1:], False
    if is_python(words):
        name, rest, is_module = _run_by_python(rest)
    for program in WATCHED_PROGRAMS:
        if name in program.modules if is_module else os.path.basename(name) in program.names:
            return program, rest
    return None, ()


def _run_by_python(words: Sequence[str]) -> tuple[str, Sequence[str], bool]:
    """The script or module that an interpreter runs, the words behind it, and whether it is a module."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        flags, at = words[at][1:], at + 1
        if flags.startswith("-"):  # `--check-hash-based-pycs always` is the only one with a value
            at += flags == "-check-hash-based-pycs"
            continue
        for number, flag in enumerate(flags, start=1):
            if flag == "m":
                at += number == len(flags)
                return flags[number:] or "".join(words[at - 1 : at]), words[at:], True
            if flag == "c":
                return "", (), False
            if flag in _FLAGS_WITH_VALUE:
                at += number == len(flags)
                break
        if not flags:
            return "", (), False
    return "".join(words[at : at + 1]), words[at + 1 :], False


class _Reader:
    """Goes along a command line once."""

    def __init__(self, program: WatchedProgram) -> None:
        self._program = program
        self._words: list[str] = []
        self._are_certain = True
        self.options: dict[str, list[str]] = {}

    def positional_words(self) -> tuple[str, ...] | None:
        if not self._program.has_words:
            return ()
        return tuple(map(without_credentials, self._words[:_VALUES_AT_MOST])) if self._are_certain else None

    def read(self, words: Sequence[str]) -> None:
        """Fill `options` and the positional words."""
        expects = ""  # the name of the recorded option whose value comes next
        is_skipped = False  # the next word is the value of an option that is not recorded
        for word in words:
            if word.startswith("-") and len(word) > 1 and not (expects and _is_number(word)):
                expects, is_skipped = self._option(word)
            elif expects:
                self.options[expects].append(word)
                expects = expects if expects in self._program.several else ""
            elif is_skipped:
                # Of an unknown option nobody knows whether it has a value; what looks like a task may be one.
                self._are_certain &= "=" in word or not any(sign in word for sign in ("/", "@", ".py"))
                is_skipped = False
            else:
                self._words.append(word)

    def _option(self, word: str) -> tuple[str, bool]:
        """What comes next: the value of which recorded option, and whether a value that is not recorded."""
        option, equals, value = word.partition("=")
        if word[:2] in self._program.recorded and len(word) > 2:  # `-Mpath=/m`
            option, equals, value = word[:2], "=", word[2:]
        name = self._program.recorded.get(option)
        if name is None:
            return "", not equals and option not in self._program.flags
        values = self.options.setdefault(name, [])
        if equals:
            values.append(value)
        return ("" if equals and name not in self._program.several else name), False


def _is_number(word: str) -> bool:
    return word[1:].replace(".", "", 1).isdigit()


def _shown(program: WatchedProgram, name: str, values: list[str]) -> list[str]:
    """What is recorded of an option's values."""
    keys = program.pairs.get(name)
    if keys is not None:
        values = [pair for value in values for pair in _pairs(value, keys)]
    return [without_credentials(value) for value in values[:_VALUES_AT_MOST]]


def _pairs(value: str, keys: frozenset[str]) -> Iterator[str]:
    """The pairs of `key=value,...` whose key is listed, and `...` for what is left out."""
    pairs = [pair.strip() for pair in value.split(",")]
    listed = [pair for pair in pairs if "=" in pair and pair.partition("=")[0] in keys]
    yield from listed
    if len(listed) < len(pairs):
        yield LEFT_OUT
