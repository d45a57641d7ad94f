"""Rows are filled up such that none lies across two pages."""

from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.agent.sampling.csv_file import fill_up

PAGE = 4096
LINES = st.lists(st.integers(1, 400).map(lambda length: b"x" * length + b"\n"), min_size=1, max_size=20)


@given(st.lists(LINES, min_size=1, max_size=30))
def test_of_rows_of_about_one_length_none_crosses_a_page(ticks: list[list[bytes]]) -> None:
    """The next tick's rows may be a little longer than those of this one, not ten times."""
    file = b""
    for tick in ticks:
        longest = b"x" * 380 + b"\n"
        file += fill_up(b"".join([longest, *tick]), at=len(file))
    at = 0
    for line in file.splitlines(keepends=True):
        assert at // PAGE == (at + len(line) - 1) // PAGE
        at += len(line)


@given(LINES, st.integers(0, 10**6), st.booleans())
def test_nothing_but_blanks_is_added(lines: list[bytes], at: int, is_torn: bool) -> None:
    filled = fill_up(b"".join(lines), at=at, is_torn=is_torn)
    expected = [b""] * is_torn + [line.rstrip() for line in lines]
    assert [line.rstrip() for line in filled.splitlines()] == expected
    assert filled.endswith(b"\n")
    assert len(filled) <= sum(map(len, lines)) + is_torn + (len(b"".join(lines)) // PAGE + 2) * 500


def test_a_row_longer_than_a_page_stays_as_it_is() -> None:
    row = b"x" * 5000 + b"\n"
    assert fill_up(row, at=4000) == row
    assert fill_up(b"", at=4000) == b""
