"""A table: aligned, as wide as the terminal lets it be."""

from __future__ import annotations

from evalmon_agent.cli.output import table_lines

COLUMNS = ("Evaluation", "Job")


def row(*texts: str) -> list[tuple[str, str | None]]:
    return [(text, None) for text in texts]


def test_the_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [row("a", "1"), row("a/longer/name", "12345")]
    assert list(table_lines(COLUMNS, rows, width=None)) == [
        "Evaluation     Job",
        "─" * 20,
        "a              1",
        "a/longer/name  12345",
    ]


def test_without_rows_there_is_a_heading() -> None:
    assert list(table_lines(COLUMNS, [], width=None)) == ["Evaluation  Job", "─" * 15]


def test_where_the_terminal_is_too_narrow_a_long_name_has_a_line_of_its_own() -> None:
    rows = [row("abcdefghijklmnopqrstuvwxyz", "12345"), row("b", "6")]
    assert list(table_lines(COLUMNS, rows, width=28)) == [
        "Evaluation             Job",
        "─" * 28,
        "abcdefghijklmnopqrstuvwxyz",
        "                       12345",
        "b                      6",
    ]


def test_a_column_without_a_text_is_left_out_and_optional_ones_where_there_is_no_room() -> None:
    columns, rows = ("E", "Empty", "Second", "First"), [row("name", "", "2", "1")]
    assert next(table_lines(columns, rows, width=20, optional=("First", "Second"))) == "E     Second  First"
    assert next(table_lines(columns, rows, width=18, optional=("First", "Second"))) == "E     Second"
    assert next(table_lines(columns, rows, width=4, optional=("First", "Second"))) == "E"
    assert next(table_lines(columns, rows, width=None, optional=("First", "Second"))) == "E     Second  First"


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    rows = [row("評価", "1"), row("e\u0301", "2"), row("abcd", "3")]
    assert list(table_lines(("E", "J"), rows, width=None))[2:] == ["評価  1", "e\u0301     2", "abcd  3"]


def test_a_colour_is_around_the_text_only() -> None:
    assert list(table_lines(("S", "J"), [[("ok", "green"), ("1", None)]], width=None))[2] == "\x1b[32mok\x1b[0m  1"


def test_the_rule_is_no_wider_than_the_terminal() -> None:
    assert list(table_lines(("E", "a long heading"), [], width=10))[1] == "─" * 10
