"""Puts the tables that the code has into docs/files.md, each between `<!-- table: NAME -->` and `<!-- end -->`."""

import ast
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.logbook.blocks import BlockKind
from evalmon_agent.words.csv_columns import NVIDIA_SMI_COLUMNS, GpuColumn, HostColumn

_PLACE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """The text with each of its tables as the code has it."""
    tables = {
        "log blocks": _table("block", "when", ((kind.name, kind.value) for kind in BlockKind)),
        "GPU figures": _table("field", "what it is", _documented(GpuFigures)),
        "GPU columns": _table("column", "what it is", _meanings(tuple(GpuColumn)[len(NVIDIA_SMI_COLUMNS) :])),
        "host columns": _table("column", "what it is", _meanings(HostColumn)),
    }
    return _PLACE.sub(lambda place: f"{place[1]}{tables[place[2]]}{place[3]}", text)


def _meanings(columns: Iterable[GpuColumn | HostColumn]) -> Iterator[tuple[str, str]]:
    return ((column.header, column.meaning) for column in columns)


def _documented(record: type) -> Iterator[tuple[str, str]]:
    """The fields of a record, each with the docstring below it."""
    definition = ast.parse(inspect.getsource(record)).body[0]
    assert isinstance(definition, ast.ClassDef)
    for field, below in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(below, ast.Expr), f"{field.target.id} has no docstring"
            yield field.target.id, str(ast.literal_eval(below.value))


def _table(name: str, what: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {name} | {what} |", "|---|---|", *(f"| `{cell}` | {told} |" for cell, told in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text()))
