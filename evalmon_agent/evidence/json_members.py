"""Reads some values of a large JSON text, without building the rest of it. Pure.

Memory: what is taken, at most 512 KiB of text a value; time: half a million brackets. Beyond either, or where the
text is damaged or ends, nothing more is taken: what was found before stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, TypeAlias

_VALUE_LIMIT_BYTES = 512 * 1024
_BRACKETS_AT_MOST = 500_000
# Ours, for Python's own limit differs: 3.14 reads what is nested 10,000 deep, 3.11 ends at 1,000.
_DEPTH_AT_MOST = 500
_COST_OF_MEMBER = 3

_STRING = rb'"(?:[^"\\]++|\\.)*+"'
# The next bracket outside of strings; or the quotation mark of a string that does not end.
_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb')*+([\[\]{}"])', re.DOTALL)
_KEY = re.compile(rb'\s*"((?:[^"\\]++|\\.)*+)"\s*:\s*', re.DOTALL)
_SCALAR = re.compile(_STRING + rb'|[^\s,:"\[\]{}]+', re.DOTALL)
_SPACE = re.compile(rb"\s*")
_STRINGS = re.compile(_STRING, re.DOTALL)


class Take(Enum):
    """What to take of a value."""

    VALUE = auto()
    """The value itself."""
    TEXT = auto()
    """Its JSON text, undecoded."""
    COUNT = auto()
    """The number of elements of an array of strings and numbers."""


Wanted: TypeAlias = "Mapping[str, Take | Wanted]"


class _DamagedError(Exception):
    """The text is no JSON from here on, has ended, or there is too much of it."""


def members(text: bytes, wanted: Wanted) -> dict[str, Any]:
    """The wanted members of the object that `text` begins with, those of inner objects as dictionaries.

    The members behind the last wanted one are not looked at.
    """
    return _Scanner(text).members(0, wanted)[0]


def elements(text: bytes, wanted: Wanted) -> list[dict[str, Any]] | None:
    """The wanted members of each object in the array that `text` begins with; None unless that is read to its end."""
    return _Scanner(text).elements(wanted)


class _Scanner:
    def __init__(self, text: bytes) -> None:
        self._text = text
        self._left = _BRACKETS_AT_MOST

    def members(self, at: int, wanted: Wanted) -> tuple[dict[str, Any], int | None]:
        """The members of the object at `at`, and where it ends; None for the end if that was not reached."""
        found: dict[str, Any] = {}
        try:
            at = self._expect(at, b"{")
            while self._text[at : at + 1] != b"}":
                name, at = self._key(at)
                at = self._member(name, at, wanted, found)
                if self._text[at : at + 1] == b",":
                    at += 1
                elif self._text[at : at + 1] != b"}":
                    return found, None
        except _DamagedError:
            return found, None
        return found, self._after_space(at + 1)

    def elements(self, wanted: Wanted) -> list[dict[str, Any]] | None:
        all_found: list[dict[str, Any]] = []
        try:
            at = self._expect(0, b"[")
            while self._text[at : at + 1] == b"{":
                self._spend(_COST_OF_MEMBER)
                found, end = self.members(at, wanted)
                if end is None:
                    return None
                all_found.append(found)
                at = self._after_space(end + (self._text[end : end + 1] == b","))
        except _DamagedError:
            return None
        return all_found if self._text[at : at + 1] == b"]" else None

    def _member(self, name: str, at: int, wanted: Wanted, found: dict[str, Any]) -> int:
        """Take one member, whose value begins at `at`, if it is wanted; returns where its value has ended."""
        take = wanted.get(name)
        if isinstance(take, Mapping) and self._text[at : at + 1] == b"{":
            found[name], end = self.members(at, take)
            if end is None:
                raise _DamagedError
            return end
        end, depth = self._end_of_value(at)
        if isinstance(take, Take):
            is_readable = take is not Take.VALUE or depth <= _DEPTH_AT_MOST
            found[name] = _taken(self._text[at:end], take) if is_readable else None
        return self._after_space(end)

    def _key(self, at: int) -> tuple[str, int]:
        match = _KEY.match(self._text, at)
        if match is None:
            raise _DamagedError
        self._spend(_COST_OF_MEMBER)
        # A name with an escape in it is none that anybody wants.
        return match[1].decode(errors="replace"), match.end()

    def _spend(self, cost: int) -> None:
        self._left -= cost
        if self._left < 0:
            raise _DamagedError

    def _end_of_value(self, at: int) -> tuple[int, int]:
        """Where the value at `at` has ended, and how deeply it is nested."""
        if scalar := _SCALAR.match(self._text, at):
            # A number at the end of a text that was cut may have lost digits.
            if scalar.end() == len(self._text) and self._text[-1:] != b'"':
                raise _DamagedError
            return scalar.end(), 0
        depth = deepest = 0
        while bracket := _BRACKET.match(self._text, at):
            self._spend(1)
            at = bracket.end()
            depth += 1 if bracket[1] in b"{[" else -1
            deepest = max(depth, deepest)
            if bracket[1] == b'"':
                break
            if depth == 0:
                return at, deepest
        raise _DamagedError

    def _expect(self, at: int, character: bytes) -> int:
        at = self._after_space(at)
        if self._text[at : at + 1] != character:
            raise _DamagedError
        return self._after_space(at + 1)

    def _after_space(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return match.end() if match else at


def _taken(text: bytes, take: Take) -> Any:
    if take is Take.COUNT:
        return _count(text)
    if len(text) > _VALUE_LIMIT_BYTES:
        return None
    return text if take is Take.TEXT else _decoded(text)


def _count(array: bytes) -> int | None:
    if array[:1] != b"[":
        return None
    if not array[1:-1].strip():
        return 0
    within_strings = sum(string[0].count(b",") for string in _STRINGS.finditer(array))
    return array.count(b",") - within_strings + 1


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
