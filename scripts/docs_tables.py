"""Writes the tables of the code into pages of docs/, each between `<!-- table: NAME -->` and `<!-- end -->`."""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

from docs_schemas import field_docstrings
from evalmon_agent.agent.arguments import HOOK_HELP, RUN_HELP, SAMPLE_HELP
from evalmon_agent.cli.group import GROUPS, IN_JOBS, main
from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.tracking.blocks import BlockKind
from evalmon_agent.words.csv_columns import NVIDIA_SMI_COLUMNS, GpuColumn, HostColumn

_HELP_IN_JOBS = {"run": RUN_HELP, "sample": SAMPLE_HELP, "hook": HOOK_HELP}
_NOBODY_TYPES = "Started by evalmon itself"
_PLACE = re.compile(r"(<!-- table: (.+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(text: str) -> str:
    """The text with each of its tables replaced by the code's."""
    tables = {
        "log blocks": _table("block", "when", ((kind.name, kind.value) for kind in BlockKind)),
        "GPU figures": _table("field", "what it is", _documented(GpuFigures)),
        "GPU columns": _table("column", "what it is", _meanings(tuple(GpuColumn)[len(NVIDIA_SMI_COLUMNS) :])),
        "host columns": _table("column", "what it is", _meanings(HostColumn)),
        "commands": "\n".join(_commands()),
    }
    return _PLACE.sub(lambda place: f"{place[1]}{tables[place[2]]}{place[3]}", text)


def _commands() -> Iterator[str]:
    """A section for each command: its usage, what it does, its options, an example."""
    for title, commands in GROUPS.items():
        if title != _NOBODY_TYPES:
            yield f"## {title}\n"
            yield from map(_command, commands)


def _command(name: str) -> str:
    usage, text, options, example = _in_jobs(name) if name in IN_JOBS else _of_click(name)
    parts = [f"### evalmon {name}", f"`{usage}`", text, example]
    table = "\n" + _table("option", "effect", options) if options else ""
    return "\n\n".join(filter(None, parts)) + "\n" + table


def _of_click(name: str) -> tuple[str, str, list[tuple[str, str]], str]:
    group = click.Context(main, info_name="evalmon")
    command = main.get_command(group, name)
    assert command is not None
    context = click.Context(command, info_name=name, parent=group)
    records = [option.get_help_record(context) for option in command.params if isinstance(option, click.Option)]
    options = [(_plain(record[0]), record[1]) for record in records if record is not None]
    usage = " ".join(["evalmon", name, *command.collect_usage_pieces(context)])
    example = re.sub(r"^Example: (.+)$", r"Example: `\1`", command.epilog or "")
    return usage, inspect.cleandoc(command.help or ""), options, example


def _plain(option: str) -> str:
    """Without click's words for numbers; a bar would end the cell, so choices are {a,b}."""
    option = re.sub(r"(FLOAT|INTEGER)( RANGE)?", "NUMBER", option)
    return re.sub(r"\[(.+\|.+)\]", lambda choices: f"{{{choices[1].replace('|', ',')}}}", option)


def _in_jobs(name: str) -> tuple[str, str, list[tuple[str, str]], str]:
    text = _HELP_IN_JOBS[name]
    options = re.findall(r"^  (--\S+ [A-Z]+) {2,}(.+)$", text, re.MULTILINE)
    return text.partition("\n")[0].removeprefix("Usage: "), IN_JOBS[name], options, ""


def _meanings(columns: Iterable[GpuColumn | HostColumn]) -> Iterator[tuple[str, str]]:
    return ((column.header, column.meaning) for column in columns)


def _documented(record: type) -> Iterable[tuple[str, str]]:
    texts = field_docstrings(record)
    assert [*texts] == [*record.__annotations__], f"a field of {record.__name__} has no docstring"
    return texts.items()


def _table(name: str, what: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {name} | {what} |", "|---|---|", *(f"| `{cell}` | {told} |" for cell, told in rows)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for page in map(Path, sys.argv[1:]):
        page.write_text(with_tables(page.read_text()))
