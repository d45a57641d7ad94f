"""The tables in docs/ are those of the code: `scripts/docs` writes those of files.md."""

from __future__ import annotations

import re
from pathlib import Path

from docs_tables import with_tables
from evalmon_agent.evidence.diagnosis.causes import CAUSES
from evalmon_agent.logbook.blocks import BlockKind
from evalmon_agent.words.csv_columns import NVIDIA_SMI_COLUMNS, GpuColumn, HostColumn

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "files.md").read_text()


def test_the_page_has_the_tables_of_the_code() -> None:
    assert with_tables(PAGE) == PAGE


def test_every_column_stands_there() -> None:
    ours = tuple(GpuColumn)[len(NVIDIA_SMI_COLUMNS) :]
    assert all(f"| `{column.header}` | {column.meaning} |\n" in PAGE for column in (*ours, *HostColumn))


def test_every_kind_of_block_stands_there_once() -> None:
    assert all(PAGE.count(f"| `{kind.name}` | {kind.value} |\n") == 1 for kind in BlockKind)


def test_every_cause_is_listed_where_one_reads_of_them() -> None:
    page = (DOCS / "reading-the-outcome.md").read_text()
    table = page.partition("| about | causes |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"`([a-z-]+)`", table)) == sorted(CAUSES)
