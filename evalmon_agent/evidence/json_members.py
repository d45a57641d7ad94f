"""Reads some values of a large JSON text that comes in pieces, without keeping the rest of it. Pure.

Memory: two pieces, and what is taken, at most 512 KiB of text a value; time: grows with the text. Where the text is
damaged or ends, or an object has 300,000 members, nothing more is taken: what was found before stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from enum import Enum, auto
from itertools import accumulate
from typing import Any, TypeAlias

_VALUE_LIMIT_BYTES = 512 * 1024
_NAME_LIMIT_BYTES = 512 * 1024
_MEMBERS_AT_MOST = 300_000
# Ours, for Python's own limit differs: 3.14 reads what is nested 10,000 deep, 3.11 ends at 1,000.
_DEPTH_AT_MOST = 500
_LEAP_BYTES = 4 * 1024
_LEAP_AFTER_BRACKETS = 32

# Only single characters are repeated possessively: with more, Python 3.11.2 matches wrongly (gh-106052).
_CHARACTERS = rb'[^"\\]*+(?:\\.[^"\\]*+)*'
_STRING = rb'"' + _CHARACTERS + rb'"'
# Up to the next bracket outside of strings, or to a string that does not end here; a thousand strings at most.
_TO_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|' + _STRING + rb"){0,1000}", re.DOTALL)
_WHOLE_STRINGS = re.compile(rb'(?:[^"]++|' + _STRING + rb")*", re.DOTALL)
_STRINGS = re.compile(_STRING, re.DOTALL)
_REST_OF_STRING = re.compile(_CHARACTERS, re.DOTALL)
_KEY = re.compile(rb'"(' + _CHARACTERS + rb')"\s*:', re.DOTALL)
_SCALAR = re.compile(rb'[^\s,:"\[\]{}]+')
_SPACE = re.compile(rb"\s*")
_STEP = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}
_NO_BRACKETS = bytes(set(range(256)) - _STEP.keys())
_STOPS = frozenset(b'[]{}"')


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


def members(pieces: Iterable[bytes], wanted: Wanted) -> dict[str, Any]:
    """The wanted members of the object that the text begins with, those of inner objects as dictionaries.

    The members behind the last wanted one are not looked at.
    """
    return JsonScanner(pieces).members(wanted)


class JsonScanner:
    """One text, read once from its beginning to its end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._text = b""
        self._at = 0

    def members(self, wanted: Wanted, *, until: str | None = None) -> dict[str, Any]:
        """Those of the object that comes next. It stops at the value of `until`, or behind the last wanted one."""
        found: dict[str, Any] = {}
        with suppress(_DamagedError):
            self._members(wanted, found, lambda name: name == until or wanted.keys() <= found.keys())
        return found

    def elements(self, names: Collection[str]) -> Iterator[Mapping[str, Any] | None]:
        """Of each object in the array that comes next, those of these members that it has and are not null.

        A value that is too large is an empty text. The last object is None unless the array is read to its end.
        """
        try:
            self._expect(b"[")
            for _ in range(_MEMBERS_AT_MOST):
                if self._peek() != b"{":
                    break
                yield self._element(names)
                if self._peek() == b",":
                    self._at += 1
            self._expect(b"]")
        except _DamagedError:
            yield None

    def _element(self, names: Collection[str]) -> Mapping[str, Any]:
        """Of one object: by Python's own parser where it is small and within reach."""
        if end := self._end_within_reach():
            with suppress(ValueError, RecursionError):
                value = json.loads(self._text[self._at : end])
                self._at = end
                return {name: value[name] for name in names if value.get(name) is not None}
        texts: dict[str, Any] = {}
        self._members(dict.fromkeys(names, Take.TEXT), texts)
        return {name: "" if text is None else _decoded(text) or "" for name, text in texts.items() if text != b"null"}

    def _end_within_reach(self) -> int | None:
        depth, at = 0, self._at
        for _ in range(_LEAP_AFTER_BRACKETS):
            at = self._next_bracket(at)
            step = _STEP.get(self._text[at]) if at < len(self._text) else None
            if step is None:
                return None
            at += 1
            depth += step
            if depth == 0:
                return at
        return None

    def _members(
        self, wanted: Wanted, found: dict[str, Any], is_enough: Callable[[str], bool] = lambda _: False
    ) -> None:
        self._expect(b"{")
        for _ in range(_MEMBERS_AT_MOST):
            if self._peek() == b"}":
                self._at += 1
                return
            # A name with an escape in it is never a wanted one.
            name = self._match(_KEY, _NAME_LIMIT_BYTES)[1].decode(errors="replace")
            if is_enough(name):
                return
            self._member(name, wanted, found)
            if self._peek() == b",":
                self._at += 1
            elif self._peek() != b"}":
                raise _DamagedError
        raise _DamagedError

    def _member(self, name: str, wanted: Wanted, found: dict[str, Any]) -> None:
        take = wanted.get(name)
        if isinstance(take, Mapping) and self._peek() == b"{":
            inner = found[name] = {}
            self._members(take, inner)
        elif take is Take.COUNT:
            found[name] = self._count()
        elif isinstance(take, Take):
            kept = _Kept()
            depth = self._value(kept.add)
            if take is Take.TEXT:
                found[name] = kept.text
            else:
                found[name] = _decoded(kept.text) if kept.text is not None and depth <= _DEPTH_AT_MOST else None
        else:
            self._value()

    def _count(self) -> int | None:
        if self._peek() != b"[":
            self._value()
            return None
        self._at += 1
        if self._peek() == b"]":
            self._at += 1
            return 0
        count = 1
        while self._peek() != b"]":
            if self._peek() == b",":
                self._at += 1
                count += 1
            elif run := _FLAT.match(self._text, self._at):
                count += _STRINGS.sub(b"", run[0]).count(b",")
                self._at = run.end()
            else:
                self._value()
        self._at += 1
        return count

    def _value(self, keep: Callable[[bytes], None] = lambda _: None) -> int:
        """Pass over the next value; returns how deeply it is nested."""
        first = self._peek()
        if first == b'"':
            self._string(keep)
            return 0
        if first in (b"{", b"["):
            return self._container(keep)
        keep(self._match(_SCALAR, _VALUE_LIMIT_BYTES)[0])
        # A number at the end of a text that was cut may have lost digits.
        self._peek()
        return 0

    def _string(self, keep: Callable[[bytes], None]) -> None:
        self._pass(self._at + 1, keep)
        while True:
            match = _REST_OF_STRING.match(self._text, self._at)
            end = match.end() if match else self._at
            if self._text[end : end + 1] == b'"':
                self._pass(end + 1, keep)
                return
            self._pass(end, keep)
            self._read_on()

    def _container(self, keep: Callable[[bytes], None]) -> int:
        depth = deepest = brackets = 0
        at = leap_from = self._at
        while True:
            if brackets > _LEAP_AFTER_BRACKETS and at >= leap_from:
                leap_from, levels = self._levels(at, depth)
                if 0 not in levels:
                    at, depth, deepest = leap_from, levels[-1], max([deepest, *levels])
            at = self._next_bracket(at)
            if at == len(self._text):
                self._pass(at, keep)
                self._read_on()
                at = leap_from = self._at
                continue
            if self._text[at] not in _STEP:
                self._pass(at, keep)
                self._string(keep)
                at = leap_from = self._at
                continue
            depth += _STEP[self._text[at]]
            at += 1
            brackets += 1
            deepest = max(deepest, depth)
            if depth == 0:
                self._pass(at, keep)
                return deepest

    def _next_bracket(self, at: int) -> int:
        """Where the next bracket outside of strings is, or a string that may not end here, or the end."""
        while True:
            match = _TO_BRACKET.match(self._text, at)
            at = match.end() if match else at
            if at == len(self._text) or self._text[at] in _STOPS:
                return at

    def _levels(self, at: int, depth: int) -> tuple[int, list[int]]:
        """The next stretch of the text that has only whole strings: its end, and the depths that it goes through."""
        match = _WHOLE_STRINGS.match(self._text, at, at + _LEAP_BYTES)
        end = match.end() if match else at
        brackets = _STRINGS.sub(b"", self._text[at:end]).translate(None, _NO_BRACKETS)
        return max(end, at + 1), list(accumulate(map(_STEP.__getitem__, brackets), initial=depth)) if end > at else [0]

    def _match(self, pattern: re.Pattern[bytes], limit_bytes: int) -> re.Match[bytes]:
        """What fits here, and would not be longer if there were more of the text."""
        self._peek()
        while True:
            match = pattern.match(self._text, self._at)
            is_whole = match is not None and match.end() < len(self._text)
            if not is_whole and len(self._text) - self._at <= limit_bytes:
                self._read_on()
            elif match is None:
                raise _DamagedError
            else:
                self._at = match.end()
                return match

    def _expect(self, character: bytes) -> None:
        if self._peek() != character:
            raise _DamagedError
        self._at += 1

    def _peek(self) -> bytes:
        """The next character that is no space."""
        character = self._text[self._at : self._at + 1]
        if character > b" ":
            return character
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at : self._at + 1]
            self._read_on()

    def _pass(self, end: int, keep: Callable[[bytes], None]) -> None:
        keep(self._text[self._at : end])
        self._at = end

    def _read_on(self) -> None:
        """Let go of what was passed, and take in another piece."""
        piece = next(filter(None, self._pieces), None)
        if piece is None:
            raise _DamagedError
        self._text = self._text[self._at :] + piece
        self._at = 0


# Strings and numbers with commas between them, of which none is the last thing that has been read.
_FLAT = re.compile(rb'(?:(?:[^\s,:"\[\]{}]++|' + _STRING + rb")\s*+,\s*+){1,1000}", re.DOTALL)


class _Kept:
    """The text of a value; None once it is too large."""

    def __init__(self) -> None:
        self.text: bytes | None = b""

    def add(self, part: bytes) -> None:
        if self.text is not None:
            self.text = self.text + part if len(self.text) + len(part) <= _VALUE_LIMIT_BYTES else None


def _decoded(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
