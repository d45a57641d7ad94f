"""The tables in docs/files.md are those of the code: `scripts/docs` writes them."""

from __future__ import annotations

from pathlib import Path

from docs_tables import with_tables
from evalmon_agent.logbook.blocks import BlockKind
from evalmon_agent.words.csv_columns import NVIDIA_SMI_COLUMNS, GpuColumn, HostColumn

PAGE = (Path(__file__).parents[1] / "docs" / "files.md").read_text()


def test_the_page_has_the_tables_of_the_code() -> None:
    assert with_tables(PAGE) == PAGE


def test_every_column_stands_there() -> None:
    ours = tuple(GpuColumn)[len(NVIDIA_SMI_COLUMNS) :]
    assert all(f"| `{column.header}` | {column.meaning} |\n" in PAGE for column in (*ours, *HostColumn))


def test_every_kind_of_block_stands_there_once() -> None:
    assert all(PAGE.count(f"| `{kind.name}` | {kind.value} |\n") == 1 for kind in BlockKind)
