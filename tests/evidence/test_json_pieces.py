"""Tests that JSON in pieces is read as json.loads reads it, in bounded memory, whatever the text."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalmon_agent.evidence import json_pieces
from evalmon_agent.evidence.result import TooLargeError, UnreadableLogError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=15,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=4), max_size=5)


def pieces(text: bytes, size: int = 7) -> Iterator[bytes]:
    return (text[at : at + size] for at in range(0, len(text), size))


def objects(text: bytes, size: int = 7) -> list[dict[str, Any]] | None:
    """None if they cannot be read to their end."""
    try:
        return list(json_pieces.objects(pieces(text, size)))
    except UnreadableLogError:
        return None


@given(JSON)
def test_a_whole_text_is_what_json_makes_of_it(value: Any) -> None:
    assert json_pieces.whole(pieces(json.dumps(value).encode())) == value


def test_a_cut_text_is_none() -> None:
    text = b'{"a": 123, "b": [1, {"c": "x"}]}'
    assert all(json_pieces.whole([text[:cut]]) is None for cut in range(len(text)))


@pytest.mark.parametrize(
    "text",
    [b'"' + b"x" * 11_000_000, b"[" + b"1," * 900_000 + b"1]", b"[" * 900_000, b'{"a":1' + b',"b":1' * 100_000 + b"}"],
)
def test_a_text_that_would_take_much_memory_is_refused(text: bytes) -> None:
    with pytest.raises(TooLargeError):
        json_pieces.whole(pieces(text, 100_000))


def test_a_text_that_is_nested_too_deeply_is_none() -> None:
    assert json_pieces.whole([b"[" * 100_000 + b"]" * 100_000]) is None
    assert objects(b'[{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]", 100_000) is None


@given(st.dictionaries(st.sampled_from(["a", 'd"', "e\\", "é"]), JSON), OBJECTS, st.sampled_from([None, 1]))
def test_the_members_before_an_array_and_its_objects(before: dict[str, Any], array: Any, indent: int | None) -> None:
    text = json.dumps({**before, "inner": {"x": [1]}, "x": array, "z": 2}, indent=indent).encode()
    header, rest = json_pieces.before_array(pieces(text), "x")
    assert header == {**before, "inner": {"x": [1]}, "x": None}
    assert list(json_pieces.objects(rest)) == array


def test_without_the_array_there_is_the_whole() -> None:
    header, rest = json_pieces.before_array(pieces(b'{"x": 3, "y": {"x": [1]}}'), "x")
    assert (header, list(rest)) == ({"x": 3, "y": {"x": [1]}}, [])


@given(OBJECTS, st.sampled_from([None, 1]), st.integers(1, 20))
def test_objects_are_what_json_makes_of_them(array: list[dict[str, Any]], indent: int | None, size: int) -> None:
    assert objects(b" " + json.dumps(array, indent=indent, ensure_ascii=False).encode(), size) == array


def test_objects_are_all_or_none() -> None:
    text = b'[{"id": 1, "error": null}, {"id": 2, "error": "x"}, {}]'
    assert objects(b" [ ] ") == []
    for cut in range(len(text)):
        assert objects(text[:cut]) is None
    assert [objects(other) for other in (b"", b"{}", b"[1]", b'[{"a": 1}, 2]', b"[{} x]")] == [None] * 5


@pytest.mark.parametrize("behind", [0, 1000, 6_000_000])
@pytest.mark.parametrize("size", [1_900_000, 2_300_000, 4_000_000, 7_000_000, 11_000_000])
def test_a_large_object_is_read_whatever_comes_behind_it(size: int, behind: int) -> None:
    small = b', {"x": "' + b"y" * 990 + b'"}'
    found = objects(b'[{"x": "' + b"x" * size + b'"}' + small * (behind // 1000) + b"]", 256 * 1024)
    assert found is not None
    assert (len(found[0]["x"]), len(found)) == (size, 1 + behind // 1000)


def test_an_object_that_is_too_large_ends_the_reading() -> None:
    assert objects(b'[{"x": "' + b"x" * 14_000_000 + b'"}]', 256 * 1024) is None
    assert objects(b'[{"x": "' + b"x" * 4_000_000 + "\N{CRAB}".encode() + b'"}]', 256 * 1024) is None


def test_a_header_of_many_ids_with_colons_is_read() -> None:
    ids = [f"train:{n}" for n in range(230_000)]
    assert json_pieces.whole([json.dumps({"ids": ids}).encode()]) == {"ids": ids}


@pytest.mark.parametrize("is_header", [False, True], ids=["object", "header"])
@pytest.mark.parametrize(
    "value",
    [
        b'"' + "\N{CRAB}".encode() * 2_900_000 + b'"',
        b'"' + b"x" * 9_900_000 + "\N{CRAB}".encode() + b'"',
        b'"' + b"x" * 9_900_000 + "\N{CYRILLIC SMALL LETTER ZHE}".encode() + b'"',
        b'"' + b"x" * 9_900_000 + b'"',
        b"[" + b"[],[],[]," * 900_000 + b"1]",
    ],
    ids=["emoji", "one-emoji", "one-letter", "ascii", "lists"],
)
def test_no_text_takes_more_than_64_mib_of_memory(value: bytes, is_header: bool) -> None:
    script = f"""
import resource, sys
sys.path.insert(0, {str(Path(json_pieces.__file__).parents[2])!r})
from evalmon_agent.evidence.json_pieces import objects, whole
from evalmon_agent.evidence.result import UnreadableLogError
pieces = iter(lambda: sys.stdin.buffer.read(256 * 1024), b"")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    print(whole(pieces) is None if {is_header} else sum(1 for _ in objects(pieces)))
except UnreadableLogError:
    print("unread")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""
    text = b'[{"a": 1}, {"x": ' + value + b"}]"
    done = subprocess.run([sys.executable, "-c", script], input=text, capture_output=True, check=True, timeout=60)
    assert int(done.stdout.split()[-1]) < 64, done.stdout


@settings(deadline=None)
@given(st.binary(max_size=60), st.text(alphabet='{}[]":,\\ 1a', max_size=60))
def test_any_text_is_survived(data: bytes, text: str) -> None:
    for any_text in (data, text.encode(), b'{"a":' + data, b'{"a":[' + text.encode()):
        json_pieces.whole(pieces(any_text))
        json_pieces.before_array(pieces(any_text), "a")
        objects(any_text)
        objects(b"[" + any_text)
