"""Decodes files that have a schema number; refuses a schema that this version does not read, with advice.

A change of shape of a file that evalmon rewrites raises its schema (1 if a file has no number). Unknown fields of the
same schema are ignored.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec

from evalmon_agent.errors import UnreadableError
from evalmon_agent.files.private import read_private

_MAX_BYTES = 64 * 1024


class Versioned(Protocol):
    """What has a schema."""

    @property
    def schema(self) -> int:
        """Of the file that it was read from."""


T = TypeVar("T", bound=Versioned)


class _Schema(msgspec.Struct):
    schema: int = 1


_schema = msgspec.json.Decoder(_Schema)


def decode(data: bytes, decoder: msgspec.json.Decoder[T], *, path: str, schema: int) -> T | None:
    """The file's record; None if it is damaged. `schema`: the one that the decoder reads.

    Raises:
        UnreadableError: another evalmon wrote it, in another schema.
    """
    content: T | None
    try:
        content = decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        content = None
    written = _schema_of(data) if content is None else content.schema
    if written is None or written == schema:
        return content
    if written > schema:
        raise UnreadableError(f"{path}: written by a newer evalmon; upgrade this one (the file is left as it is)")
    raise UnreadableError(
        f"{path}: written by an older evalmon, in a form that this one does not read; go on with that one, or begin "
        "anew in another directory (the file is left as it is)"
    )


def load(path: str, decoder: msgspec.json.Decoder[T], *, schema: int, max_bytes: int) -> T | None:
    """The record in a file that can be lost; None if it does not exist, is damaged, or larger than `max_bytes`.

    Raises as `decode`, and as `read_private`.
    """
    try:
        data = read_private(path, max_bytes=max_bytes)
    except FileNotFoundError:
        return None
    return None if data is None else decode(data, decoder, path=path, schema=schema)


def read(path: str, decoder: msgspec.json.Decoder[T], *, schema: int) -> T | None:
    """A small file that is never rewritten and must be readable if it exists; None if it does not exist.

    Raises:
        UnreadableError: it is damaged, or of another schema.
    """
    try:
        data = read_private(path, max_bytes=_MAX_BYTES) or b""
    except FileNotFoundError:
        return None
    content = decode(data, decoder, path=path, schema=schema)
    if content is None:
        raise UnreadableError(f"{path}: cannot be read; remove it while no monitor runs")
    return content


def _schema_of(data: bytes) -> int | None:
    """The schema; None if this is not a JSON object, or its schema is not a number."""
    try:
        return _schema.decode(data).schema
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
