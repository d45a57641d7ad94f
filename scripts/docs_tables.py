"""Puts the tables that the code has into docs/files.md, each between `<!-- table: NAME -->` and `<!-- end -->`."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from evalmon_agent.logbook.blocks import BlockKind

_PLACE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """The text with each of its tables as the code has it."""
    tables = {"log blocks": _table("block", "when", ((kind.name, kind.value) for kind in BlockKind))}
    return _PLACE.sub(lambda place: f"{place[1]}{tables[place[2]]}{place[3]}", text)


def _table(name: str, what: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {name} | {what} |", "|---|---|", *(f"| `{cell}` | {told} |" for cell, told in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text()))
