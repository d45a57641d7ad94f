"""Tests that outside text becomes one printable line."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.words.printable import printable


@pytest.mark.parametrize("text", ["", "r8_lr1e-5/capitalization/epoch0", "a b", "日本 é 🧪", "back\\slash", "100 %"])
def test_printable_text_is_unchanged(text: str) -> None:
    assert text == printable(text)


@pytest.mark.survives("S4")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\r\t", "a\\nb\\r\\t"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\0\x7f\x85", "\\x00\\x7f\\x85"),
        ("abc\u202egnp.exe", "abc\\u202egnp.exe"),
        ("\u200b\u2066\ufeff", "\\u200b\\u2066\\ufeff"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\ud800", "\\ud800"),
        ("\ue000\U000f0000", "\\ue000\\U000f0000"),
        ("\uffff", "\\uffff"),
    ],
)
def test_control_and_format_characters_are_escaped(text: str, expected: str) -> None:
    assert expected == printable(text)


def test_a_long_text_is_cut() -> None:
    assert ("x" * 2000 + "…", "ab…") == (printable("x" * 1_000_000), printable("abc", max_chars=2))
    assert "x" * 2000 == printable("x" * 2000)


@pytest.mark.survives("S4")
@given(st.text())
def test_the_result_is_one_printable_line_and_printing_it_again_changes_nothing(text: str) -> None:
    shown = printable(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert len(shown.splitlines()) <= 1
    assert shown == printable(shown, max_chars=len(shown))
    shown.encode()
