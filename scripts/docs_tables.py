"""Puts the tables that the code has into docs/files.md, each between `<!-- table: NAME -->` and `<!-- end -->`."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from evalmon_agent.logbook.blocks import BlockKind
from evalmon_agent.words.csv_columns import NVIDIA_SMI_COLUMNS, GpuColumn, HostColumn

_PLACE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """The text with each of its tables as the code has it."""
    tables = {
        "log blocks": _table("block", "when", ((kind.name, kind.value) for kind in BlockKind)),
        "GPU columns": _table("column", "what it is", _meanings(tuple(GpuColumn)[len(NVIDIA_SMI_COLUMNS) :])),
        "host columns": _table("column", "what it is", _meanings(HostColumn)),
    }
    return _PLACE.sub(lambda place: f"{place[1]}{tables[place[2]]}{place[3]}", text)


def _meanings(columns: Iterable[GpuColumn | HostColumn]) -> Iterator[tuple[str, str]]:
    return ((column.header, column.meaning) for column in columns)


def _table(name: str, what: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {name} | {what} |", "|---|---|", *(f"| `{cell}` | {told} |" for cell, told in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text()))
