"""Tests that what the columns of the CSVs write, they also read."""

from __future__ import annotations

import re

import pytest

from evalmon_agent.words.csv_columns import GpuColumn, HostColumn

_TEXTS = {
    GpuColumn.TIMESTAMP: "2026/02/20 14:28:12.659",
    HostColumn.TIMESTAMP: "2026/02/20 14:28:12.659",
    GpuColumn.INDEX: "0:1",
    GpuColumn.UUID: "MIG-1a5b-11",
}


@pytest.mark.parametrize("column", [*GpuColumn, *HostColumn])
def test_a_written_cell_is_read_back(column: GpuColumn | HostColumn) -> None:
    value = _TEXTS.get(column, 37)
    match = re.fullmatch(column.cell.pattern, column.cell.written % value, re.ASCII)
    assert match is not None
    if column in _TEXTS:
        assert match[1] == value
    else:
        assert (int(match[1], 16) if column is GpuColumn.CLOCK_REASONS else float(match[1])) == value


def test_no_two_columns_of_a_file_have_the_same_header() -> None:
    for columns in (list(GpuColumn), list(HostColumn)):
        assert len({column.header for column in columns}) == len(columns)
