"""Tests that selected values of a large JSON text equal those of json.loads, in bounded time, whatever the text."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence import json_members
from evalmon_agent.evidence.json_members import JsonScanner, Take, Wanted

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=15,
)


def members(text: bytes, wanted: Wanted, *, piece_bytes: int = 7) -> dict[str, Any]:
    """Check that the result is the same whether the text comes as a whole or in pieces."""
    whole = json_members.members([text], wanted)
    assert json_members.members(pieces(text, piece_bytes), wanted) == whole
    return whole


def elements(text: bytes, *names: str) -> list[Mapping[str, Any]] | None:
    whole = list(JsonScanner([text]).elements(names))
    assert list(JsonScanner(pieces(text, 7)).elements(names)) == whole
    return None if None in whole else [element for element in whole if element is not None]


def pieces(text: bytes, size: int) -> Iterator[bytes]:
    return (text[at : at + size] for at in range(0, len(text), size))


@given(st.dictionaries(st.sampled_from(["a", "b", "c", 'd"', "e\\", "é"]), JSON), st.sampled_from([None, 1]))
def test_values_equal_those_of_json_loads(value: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(value, indent=indent).encode()
    expected = {name: value[name] for name in ("a", "c") if name in value}
    assert members(text, {"a": Take.VALUE, "c": Take.VALUE}) == expected


def test_inner_members_counts_and_texts_are_returned() -> None:
    text = b'{"x": [1], "y": {"ids": ["a,", "b]"], "none": [], "no": {"ids": 1}, "args": { "k": "\\"}" }}, "z": 2}'
    wanted = {"ids": Take.COUNT, "none": Take.COUNT, "args": Take.TEXT, "no": Take.COUNT}
    assert members(text, {"y": wanted, "z": Take.VALUE}) == {
        "y": {"ids": 2, "none": 0, "no": None, "args": b'{ "k": "\\"}" }'},
        "z": 2,
    }


def test_anything_else_in_place_of_an_object_is_skipped() -> None:
    assert members(b'{"a": 3, "b": 4}', {"a": {"x": Take.VALUE}, "b": Take.VALUE}) == {"b": 4}


@given(JSON, st.integers(0, 200))
def test_the_beginning_of_a_truncated_text_is_returned(value: Any, cut: int) -> None:
    text = json.dumps({"a": 1, "b": value, "c": 3}).encode()
    found = members(text[:cut], {"a": Take.VALUE, "b": Take.VALUE, "c": Take.VALUE})
    assert found in ({}, {"a": 1}, {"a": 1, "b": value}, {"a": 1, "b": value, "c": 3})


@given(st.binary(max_size=60), st.text(alphabet='{}[]":,\\ 1a', max_size=60))
def test_any_text_is_accepted(data: bytes, text: str) -> None:
    for any_text in (data, text.encode(), b'{"a":' + data, b'{"a":' + text.encode()):
        members(any_text, {"a": {"b": Take.COUNT}, "b": Take.VALUE})
        elements(any_text, "a")


def test_a_truncated_number_is_not_returned() -> None:
    text = b'{"a": 123, "b": {"c": 456}}'
    wanted = {"a": Take.VALUE, "b": {"c": Take.VALUE}}
    for cut in range(len(text) + 1):
        found = members(text[:cut], wanted)
        assert found.get("a") in (None, 123)
        assert found.get("b", {}).get("c") in (None, 456)


def test_elements_are_returned_completely_or_not_at_all() -> None:
    text = b'[{"id": 1, "error": null}, {"id": 2, "error": "x"}, {}]'
    assert elements(text, "error") == [{}, {"error": "x"}, {}]
    assert elements(b" [ ] ") == []
    for cut in range(len(text)):
        assert elements(text[:cut], "error") is None


def test_elements_with_many_brackets_and_too_large_values_are_handled() -> None:
    many = b"[" + b"[1]," * 100 + b"1]"
    text = (
        b'[{"x": ' + many + b', "error": {"message": "m"}}, {"x": ' + many + b', "error": "' + b"x" * 600_000 + b'"}]'
    )
    assert elements(text, "error") == [{"error": {"message": "m"}}, {"error": ""}]


@pytest.mark.parametrize("depth", [501, 10_000, 400_000])
def test_a_value_nested_too_deeply_is_unknown(depth: int) -> None:
    text = b'{"a": ' + b"[" * depth + b"]" * depth + b', "b": 1}'
    assert members(text, {"a": Take.VALUE, "b": Take.VALUE}).get("a") is None


def test_a_value_nested_within_the_limit_is_returned() -> None:
    text = b'{"a": ' + b"[" * 100 + b"]" * 100 + b', "b": 1}'
    found = members(text, {"a": Take.VALUE, "b": Take.VALUE})
    assert (json.dumps(found["a"]), found["b"]) == ("[" * 100 + "]" * 100, 1)


def test_a_huge_value_is_unknown_and_the_next_is_returned() -> None:
    text = b'{"a": "' + b"x" * 1_000_000 + b'", "b": 1}'
    assert members(text, {"a": Take.VALUE, "b": Take.VALUE}) == {"a": None, "b": 1}
