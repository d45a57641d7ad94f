"""The columns of the CSVs: what is written by their format is read by their pattern."""

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
def test_what_is_written_is_read(column: GpuColumn | HostColumn) -> None:
    value = _TEXTS.get(column, 37)
    match = re.fullmatch(column.cell.pattern, column.cell.written % value, re.ASCII)
    assert match is not None
    if column in _TEXTS:
        assert match[1] == value
    else:
        assert (int(match[1], 16) if column is GpuColumn.CLOCK_REASONS else float(match[1])) == value


def test_a_header_stands_once_in_a_file() -> None:
    for columns in (list(GpuColumn), list(HostColumn)):
        assert len({column.header for column in columns}) == len(columns)
