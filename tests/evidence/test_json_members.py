"""Values out of large JSON: the wanted ones as json.loads gives them, in bounded time, whatever the text."""

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
    """The same whether the text comes as a whole or in pieces."""
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
def test_values_are_what_json_makes_of_them(value: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(value, indent=indent).encode()
    expected = {name: value[name] for name in ("a", "c") if name in value}
    assert members(text, {"a": Take.VALUE, "c": Take.VALUE}) == expected


def test_inner_members_counts_and_texts_are_taken() -> None:
    text = b'{"x": [1], "y": {"ids": ["a,", "b]"], "none": [], "no": {"ids": 1}, "args": { "k": "\\"}" }}, "z": 2}'
    wanted = {"ids": Take.COUNT, "none": Take.COUNT, "args": Take.TEXT, "no": Take.COUNT}
    assert members(text, {"y": wanted, "z": Take.VALUE}) == {
        "y": {"ids": 2, "none": 0, "no": None, "args": b'{ "k": "\\"}" }'},
        "z": 2,
    }


def test_where_an_object_was_wanted_anything_else_is_passed_over() -> None:
    assert members(b'{"a": 3, "b": 4}', {"a": {"x": Take.VALUE}, "b": Take.VALUE}) == {"b": 4}


@given(JSON, st.integers(0, 200))
def test_of_a_cut_text_the_beginning_is_taken(value: Any, cut: int) -> None:
    text = json.dumps({"a": 1, "b": value, "c": 3}).encode()
    found = members(text[:cut], {"a": Take.VALUE, "b": Take.VALUE, "c": Take.VALUE})
    assert found in ({}, {"a": 1}, {"a": 1, "b": value}, {"a": 1, "b": value, "c": 3})


@given(st.binary(max_size=60), st.text(alphabet='{}[]":,\\ 1a', max_size=60))
def test_any_text_is_survived(data: bytes, text: str) -> None:
    for any_text in (data, text.encode(), b'{"a":' + data, b'{"a":' + text.encode()):
        members(any_text, {"a": {"b": Take.COUNT}, "b": Take.VALUE})
        elements(any_text, "a")


def test_a_number_that_was_cut_is_not_taken_for_a_smaller_one() -> None:
    text = b'{"a": 123, "b": {"c": 456}}'
    wanted = {"a": Take.VALUE, "b": {"c": Take.VALUE}}
    for cut in range(len(text) + 1):
        found = members(text[:cut], wanted)
        assert found.get("a") in (None, 123)
        assert found.get("b", {}).get("c") in (None, 456)


def test_elements_are_all_or_none() -> None:
    text = b'[{"id": 1, "error": null}, {"id": 2, "error": "x"}, {}]'
    assert elements(text, "error") == [{}, {"error": "x"}, {}]
    assert elements(b" [ ] ") == []
    for cut in range(len(text)):
        assert elements(text[:cut], "error") is None


def test_elements_with_many_brackets_and_values_that_are_too_large_are_read_as_well() -> None:
    many = b"[" + b"[1]," * 100 + b"1]"
    text = (
        b'[{"x": ' + many + b', "error": {"message": "m"}}, {"x": ' + many + b', "error": "' + b"x" * 600_000 + b'"}]'
    )
    assert elements(text, "error") == [{"error": {"message": "m"}}, {"error": ""}]


@pytest.mark.parametrize("depth", [501, 10_000, 400_000])
def test_a_value_nested_too_deeply_is_unknown(depth: int) -> None:
    text = b'{"a": ' + b"[" * depth + b"]" * depth + b', "b": 1}'
    assert members(text, {"a": Take.VALUE, "b": Take.VALUE}).get("a") is None


def test_a_value_nested_within_reason_is_taken() -> None:
    text = b'{"a": ' + b"[" * 100 + b"]" * 100 + b', "b": 1}'
    found = members(text, {"a": Take.VALUE, "b": Take.VALUE})
    assert (json.dumps(found["a"]), found["b"]) == ("[" * 100 + "]" * 100, 1)


def test_a_huge_value_is_unknown_and_the_next_is_taken() -> None:
    text = b'{"a": "' + b"x" * 1_000_000 + b'", "b": 1}'
    assert members(text, {"a": Take.VALUE, "b": Take.VALUE}) == {"a": None, "b": 1}
