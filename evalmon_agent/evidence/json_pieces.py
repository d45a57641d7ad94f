"""Reads JSON that comes in pieces: small texts whole, the objects of a large array one by one. Pure.

Memory: a text of 10 MiB, or an object of 12 MiB, with their values: 60 MiB at most. Python stores a text by its widest
character: with one emoji it takes four bytes for each, so such texts are read up to a quarter of that.
"""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from evalmon_agent.evidence.result import TooLargeError, UnreadableLogError

_WHOLE_AT_MOST_BYTES = 10 * 1024 * 1024
_WIDE_AT_MOST_BYTES = 3 * 1024 * 1024
_OBJECT_AT_MOST_BYTES = 12 * 1024 * 1024
_PIECE_AT_MOST_BYTES = 1024 * 1024
_OBJECTS_AT_MOST = 300_000
# A value takes 30 to 150 bytes of memory and at least one of these in the text.
_VALUES_AT_MOST = 800_000
_OF_VALUES = (b'"', b",", b"[", b"{")
# The members of an object take most.
_MEMBERS_AT_MOST = 100_000
_MEMBER = re.compile(rb'"\s*:')
# UTF-8's first byte of a character that takes four bytes in memory too.
_WIDE = re.compile(rb"[\xf0-\xf4]")
_VALUES_OF_OBJECT_AT_MOST = 300_000
_BETWEEN = re.compile(r"[\s,]*")
_NAME_BYTES = 64
_CANDIDATES_AT_MOST = 10

_decode_at = json.JSONDecoder().raw_decode


def whole(pieces: Iterable[bytes]) -> Any:
    """The value of a text; None if it is no JSON.

    Raises:
        TooLargeError: the text is too long, or has too many values.
    """
    text = b""
    for piece in pieces:
        text += piece
        _check_size(text)
    return _decoded(text)


def before_array(pieces: Iterable[bytes], name: str) -> tuple[Any, Iterator[bytes]]:
    """The object that the text is, without its member `name` and what follows it; and the text from its array on.

    Of an object without such an array the whole. It is None if it is no JSON.

    Raises:
        TooLargeError: what comes before the array is too long, or has too many values.
    """
    pieces = iter(pieces)
    member = re.compile(rb'"%s"\s*:\s*(?=\[)' % name.encode())
    text = b""
    for piece in pieces:
        looked_at = max(len(text) - _NAME_BYTES, 0)
        text += piece
        # Inner objects may have a member of that name as well: without its end the text is no JSON then.
        for match in islice(member.finditer(text, looked_at), _CANDIDATES_AT_MOST):
            before = _decoded(text[: match.end()] + b"null}")
            if before is not None:
                return before, chain([text[match.end() :]], pieces)
        _check_size(text)
    return _decoded(text), iter(())


def objects(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of the array that the text begins with.

    Raises:
        UnreadableLogError: after some of them it is damaged or cut off, or there are too many, or one is too large.
    """
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode
    pieces = iter(pieces)
    text, count, is_begun, try_at_bytes = "", 0, False, 0
    for piece in chain(pieces, [None]):
        text += decode(piece or b"", piece is None)
        if not is_begun:
            text = text.lstrip()
            if text[:1] not in {"", "["}:
                break
            is_begun, text = text != "", text[1:]
        size = sys.getsizeof(text)
        if size < try_at_bytes and piece is not None:
            continue
        if _is_too_large(text):
            break
        at = 0
        for value, end in _whole_values(text):
            if not isinstance(value, dict) or count == _OBJECTS_AT_MOST:
                raise UnreadableLogError("its samples are damaged, or too many")
            yield value
            count, at = count + 1, end
        text = text[at:]
        # A large object is not tried at each piece of it, but before it is too large.
        try_at_bytes = 0 if at else min(size * 3 // 2, _OBJECT_AT_MOST_BYTES - _PIECE_AT_MOST_BYTES)
        if _BETWEEN.sub("", text, count=1).startswith("]"):
            for _ in pieces:
                pass  # whoever gives them may find at their end that they are damaged
            return
    raise UnreadableLogError("its samples are cut off, damaged or too large")


def _is_too_large(text: str) -> bool:
    """Whether it is more than an object that is read and the piece behind it."""
    values = sum(text.count(character.decode()) for character in _OF_VALUES)
    return sys.getsizeof(text) > _OBJECT_AT_MOST_BYTES or values > _VALUES_OF_OBJECT_AT_MOST


def _whole_values(text: str) -> Iterator[tuple[Any, int]]:
    """The values that are there to their end, each with where that is."""
    at = 0
    while True:
        match = _BETWEEN.match(text, at)
        try:
            value, at = _decode_at(text, match.end() if match else at)
        except (ValueError, RecursionError):
            return
        yield value, at


def _check_size(text: bytes) -> None:
    if len(text) > _WHOLE_AT_MOST_BYTES:
        raise TooLargeError(f"its header is larger than {_WHOLE_AT_MOST_BYTES >> 20} MiB")


def _decoded(text: bytes) -> Any:
    if sum(map(text.count, _OF_VALUES)) > _VALUES_AT_MOST or sum(1 for _ in _MEMBER.finditer(text)) > _MEMBERS_AT_MOST:
        raise TooLargeError("its header has too many values")
    if len(text) > _WIDE_AT_MOST_BYTES and _WIDE.search(text):
        raise TooLargeError(f"its header is larger than {_WIDE_AT_MOST_BYTES >> 20} MiB and has emoji or the like")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
