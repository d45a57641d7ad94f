"""Finds the values of options in a script's text, with its own variables expanded. Pure.

Only certain values: a word that only a shell could work out is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_WORD = re.compile(r"""(?:"[^"\n]*"|'[^'\n]*'|\\[^\n]|[^\s"'`;&|<>()\\])+""")
_ASSIGNMENT = re.compile(r"^\s*(?:export\s+|readonly\s+|local\s+)?([A-Za-z_]\w*)=", re.MULTILINE | re.ASCII)
_PIECE = re.compile(r"""'([^']*)'|\\(.)|\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)|(["])|([^'"\\$]+|\$)""", re.DOTALL)
_CHANGE_OF_DIRECTORY = re.compile(r"^\s*cd\s+(?:--\s+)?", re.MULTILINE)
_DEPTH = 5
_AT_MOST = 20


def words_behind(pattern: re.Pattern[str], script: str, environment: Mapping[str, str]) -> list[str]:
    """The certain words that stand right behind `pattern`. `environment`: the job's variables."""
    code = _COMMENT.sub("", script)
    variables = dict(_assigned(code))
    words: dict[str, None] = {}
    for match in pattern.finditer(code):
        word = _WORD.match(code, match.end())
        value = None if word is None else _expanded(word[0], variables, environment, depth=_DEPTH)
        if value:
            words[value] = None
    return list(words)[:_AT_MOST]


def directories(script: str, environment: Mapping[str, str]) -> list[str]:
    """Where it changes to."""
    return words_behind(_CHANGE_OF_DIRECTORY, script, environment)


def _assigned(code: str) -> Iterator[tuple[str, str]]:
    for match in _ASSIGNMENT.finditer(code):
        word = _WORD.match(code, match.end())
        if word is not None:
            yield match[1], word[0]


def _expanded(word: str, variables: Mapping[str, str], environment: Mapping[str, str], *, depth: int) -> str | None:
    """The word as the shell would give it; None where that is not certain."""
    if depth == 0 or "$(" in word or "`" in word or word.startswith("~"):
        return None
    parts: list[str] = []
    for literal, escaped, braced, default, bare, _, plain in _PIECE.findall(word):
        name = braced or bare
        value: str | None = plain or literal or escaped
        if name:
            value = _value(name, variables, environment, depth=depth)
            if value is None and default:
                value = _expanded(default, variables, environment, depth=depth - 1)
        if value is None or value == "$":
            return None
        parts.append(value)
    return "".join(parts)


def _value(name: str, variables: Mapping[str, str], environment: Mapping[str, str], *, depth: int) -> str | None:
    if name in variables:
        return _expanded(variables[name], variables, environment, depth=depth - 1)
    return environment.get(name)
