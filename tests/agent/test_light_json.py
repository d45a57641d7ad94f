"""JSON by the C half of the standard library's: the same as json itself says, of anything."""

import contextlib
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.agent.light_json import dumps, loads

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_what_json_writes_and_comes_back(value: object) -> None:
    assert json.dumps(value, allow_nan=False) == dumps(value)
    assert value == loads(dumps(value).encode(), parse_float=float)


@given(st.one_of(st.text(max_size=40), VALUES.map(json.dumps).map(lambda text: text[: len(text) // 2] + " " + text)))
def test_of_any_text_the_same_is_read_or_refused_as_by_json(text: str) -> None:
    data = text.encode("utf-8", "replace")
    try:
        expected = json.loads(data.decode())
    except ValueError:
        with pytest.raises(ValueError, match=r"."):
            loads(data, parse_float=float)
    else:
        found = loads(data, parse_float=float)
        assert (found == expected) or (math.isnan(found) and math.isnan(expected))


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        loads(data, parse_float=float)


@pytest.mark.parametrize("text", ["", "  ", "[1,]", "{", '{"a":1}}', "[" * 3, "nul", '"\n"', "1 2", "\ufeff1"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(text.encode(), parse_float=float)


def test_depth_without_end_is_a_recursion_error() -> None:
    with pytest.raises(RecursionError):
        loads(b"[" * 100_000, parse_float=float)


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf], {"a": math.nan}])
def test_a_number_that_json_does_not_have_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        dumps(value)


def test_an_object_of_another_type_is_not_written() -> None:
    with pytest.raises(TypeError, match="set"):
        dumps({"a": {1}})


def test_numbers_are_the_callers_to_judge() -> None:
    seen: list[str] = []
    loads(b"[1.5, 1e999, NaN, -Infinity, 7]", parse_float=lambda text: float(seen.append(text) or 0))
    assert ["1.5", "1e999", "NaN", "-Infinity"] == seen


@pytest.mark.parametrize(
    "half", ["sys.modules['_json'] = None", "import _json; _json.make_encoder = _json.make_scanner = None"]
)
def test_without_the_c_half_json_itself_does_it(half: str) -> None:
    code = (
        f"import sys\n{half}\n"
        "from evalmon_agent.agent.light_json import dumps, loads\n"
        "print(dumps({'a': [1, 'ü']}), loads(b' {\"a\": 1.5}\\n', parse_float=float))\n"
        "print('json' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=20)
    assert done.stdout == '{"a": [1, "\\u00fc"]} {\'a\': 1.5}\nTrue\n'
