"""What another version of evalmon wrote into a file of this schema: kept, though we do not know what it means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

Tree = Any
"""Builtins, as JSON decodes to."""


class Unknown:
    """The members that no record of ours has, by the record that they were found with."""

    def __init__(self, record: msgspec.Struct | None = None, tree: Tree = None) -> None:
        # The record is kept beside its members: its id stays its own.
        self._found: dict[int, tuple[msgspec.Struct, dict[str, Any]]] = {}
        for one, members in _records(record, tree):
            more = {key: value for key, value in members.items() if key not in one.__struct_fields__}
            if more:
                self._found[id(one)] = (one, more)

    def __bool__(self) -> bool:
        return bool(self._found)

    def encode(self, record: msgspec.Struct) -> bytes:
        """The record as JSON, with what was found with it and with the records inside it."""
        if not self._found:
            return msgspec.json.encode(record)
        tree = msgspec.to_builtins(record)
        for one, members in _records(record, tree):
            members.update(self._found.get(id(one), (one, {}))[1])
        return msgspec.json.encode(tree)


def _records(value: object, tree: Tree) -> Iterator[tuple[msgspec.Struct, dict[str, Any]]]:
    """Every record in `value` with the members that stand for it in `tree`."""
    if isinstance(value, msgspec.Struct) and isinstance(tree, dict):
        yield value, tree
        for name in value.__struct_fields__:
            if name in tree:
                yield from _records(getattr(value, name), tree[name])
    elif isinstance(value, dict) and isinstance(tree, dict):
        for key, one in value.items():
            yield from _records(one, tree.get(key))
    elif isinstance(value, (list, tuple)) and isinstance(tree, list):
        for one, part in zip(value, tree, strict=False):
            yield from _records(one, part)
