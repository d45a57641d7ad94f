"""Tests that tables are aligned and fit the terminal."""

from __future__ import annotations

import click

from evalmon_agent.cli.output import table_lines

COLUMNS = ("Evaluation", "Job")


def test_the_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [["a", "1"], ["a/longer/name", "12345"]]
    assert list(table_lines(COLUMNS, rows, width=None)) == [
        "Evaluation     Job",
        "─" * 20,
        "a              1",
        "a/longer/name  12345",
    ]


def test_a_table_without_rows_has_a_heading() -> None:
    assert list(table_lines(COLUMNS, [], width=None)) == ["Evaluation  Job", "─" * 15]


def test_a_long_name_gets_its_own_line_in_a_narrow_terminal() -> None:
    rows = [["abcdefghijklmnopqrstuvwxyz", "12345"], ["b", "6"]]
    assert list(table_lines(COLUMNS, rows, width=28)) == [
        "Evaluation             Job",
        "─" * 28,
        "abcdefghijklmnopqrstuvwxyz",
        "                       12345",
        "b                      6",
    ]


def test_empty_columns_are_left_out_and_optional_ones_if_the_terminal_is_narrow() -> None:
    columns, rows = ("E", "Empty", "Second", "First"), [["name", "", "2", "1"]]
    assert next(table_lines(columns, rows, width=20, optional=("First", "Second"))) == "E     Second  First"
    assert next(table_lines(columns, rows, width=18, optional=("First", "Second"))) == "E     Second"
    assert next(table_lines(columns, rows, width=4, optional=("First", "Second"))) == "E"
    assert next(table_lines(columns, rows, width=None, optional=("First", "Second"))) == "E     Second  First"


def test_wide_characters_take_two_columns_and_combining_ones_none() -> None:
    rows = [["評価", "1"], ["e\u0301", "2"], ["abcd", "3"]]
    assert list(table_lines(("E", "J"), rows, width=None))[2:] == ["評価  1", "e\u0301     2", "abcd  3"]


def test_colour_surrounds_the_text_only() -> None:
    assert (
        list(table_lines(("S", "J"), [[click.style("ok", fg="green"), "1"]], width=None))[2] == "\x1b[32mok\x1b[0m  1"
    )


def test_the_rule_is_no_wider_than_the_terminal() -> None:
    assert list(table_lines(("E", "a long heading"), [], width=10))[1] == "─" * 10
