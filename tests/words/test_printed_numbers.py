"""Tests that impossible numbers are printed as unknown, and that no printed number is longer than a table cell."""

from __future__ import annotations

import pytest

from evalmon_agent.words.durations import clock, human, total
from evalmon_agent.words.sizes import count, human_bytes, number

ABSURD = [-1, -0.5, 1e308, float("inf"), float("-inf"), float("nan"), 10**400, None]


@pytest.mark.parametrize("value", ABSURD)
def test_impossible_numbers_are_printed_as_unknown(value: float) -> None:
    assert {number(value), number(value, "%"), clock(value), human(value), total(value)} == {"unknown"}
    assert human_bytes(value) == "unknown"  # type: ignore[arg-type]


def test_possible_numbers_are_printed() -> None:
    assert [number(0), number(12), number(97.254, "%", digits=2), number(1e12)] == [
        "0",
        "12",
        "97.25%",
        "1000000000000",
    ]
    assert (clock(0), clock(1e10), human_bytes(1 << 63)) == ("00:00:00", "115740-17:46:40", "8.00 EB")


@pytest.mark.parametrize("text", ["", " 1", "-1", "+1", "1.0", "1_0", "\u0663", "\u00b2", "N/A", "9" * 19, "9" * 5000])
def test_other_text_than_a_count_is_none(text: str) -> None:
    assert count(text) is None


def test_a_count_is_parsed() -> None:
    assert [count(text) for text in ("0", "007", "9" * 18)] == [0, 7, 10**18 - 1]
