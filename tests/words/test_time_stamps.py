"""Tests the parsing and printing of time stamps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.words.durations import first_known, iso, parse_stamp


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000", 1_700_000_000.0),
        (" 1700000000\n", 1_700_000_000.0),
        ("2023-11-14T22:13:20+00:00", 1_700_000_000.0),
        ("2023-11-14T23:13:20+01:00", 1_700_000_000.0),
    ],
)
def test_a_stamp_with_an_offset_is_parsed_as_epoch_seconds(text: str, expected: float) -> None:
    assert expected == parse_stamp(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "N/A",
        "Unknown",
        "None",
        "2019-07-31T22:29:13",
        "999999999999",
        "1e9",
        "\u0661",
        "tomorrow",
    ],
)
def test_text_without_a_time_is_none(text: str) -> None:
    assert None is parse_stamp(text)


@given(st.text())
def test_parsing_never_raises(text: str) -> None:
    parse_stamp(text)


@given(st.integers(1, 253_402_300_799))
def test_epoch_seconds_are_parsed_back(seconds: int) -> None:
    assert seconds == parse_stamp(str(seconds))


@given(st.integers(1, 4_000_000_000))
def test_a_printed_time_is_parsed_back(at: int) -> None:
    assert float(at) == parse_stamp(iso(float(at)) or "")


def test_a_time_outside_the_calendar_is_none_and_0_is_a_known_value() -> None:
    assert (None, None, None) == (iso(None), iso(1e18), iso(float("nan")))
    assert (0.0, None) == (first_known(None, 0.0, 1.0), first_known(None))
