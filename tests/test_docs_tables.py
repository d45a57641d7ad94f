"""The tables in docs/ are those of the code: `scripts/docs` writes those of files.md and commands.md."""

from __future__ import annotations

import re
from pathlib import Path

import click
import msgspec
import pytest
import yaml

from docs_tables import with_tables
from evalmon_agent.cli.group import COMMANDS, IN_JOBS, main
from evalmon_agent.evidence.diagnosis.causes import CAUSES
from evalmon_agent.logbook.blocks import BlockKind
from evalmon_agent.settings import MonitorJobSettings, Settings, parse
from evalmon_agent.words.csv_columns import NVIDIA_SMI_COLUMNS, GpuColumn, HostColumn

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "files.md").read_text()


@pytest.mark.parametrize("name", ["files.md", "commands.md"])
def test_the_page_has_the_tables_of_the_code(name: str) -> None:
    page = (DOCS / name).read_text()
    assert with_tables(page) == page


def test_every_command_and_option_stands_there() -> None:
    page = (DOCS / "commands.md").read_text()
    for name in COMMANDS.keys() | IN_JOBS.keys():
        assert f"`evalmon {name}" in page
        command = main.get_command(click.Context(main), name)
        assert command is not None
        section = page.partition(f"### evalmon {name}\n")[2].partition("\n### ")[0]
        options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
        assert [option.opts for option in options if max(option.opts, key=len) not in section] == []


def test_every_setting_stands_there_with_its_default() -> None:
    block = (DOCS / "settings.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(block) == msgspec.to_builtins(Settings())
    assert parse(block.encode(), path="evalmon.yaml", fast_polling=False) == Settings()
    assert all(f"{name}:" in block for name in (*Settings.__struct_fields__, *MonitorJobSettings.__struct_fields__))


def test_every_column_stands_there() -> None:
    ours = tuple(GpuColumn)[len(NVIDIA_SMI_COLUMNS) :]
    assert all(f"| `{column.header}` | {column.meaning} |\n" in PAGE for column in (*ours, *HostColumn))


def test_every_kind_of_block_stands_there_once() -> None:
    assert all(PAGE.count(f"| `{kind.name}` | {kind.value} |\n") == 1 for kind in BlockKind)


def test_every_cause_is_listed_where_one_reads_of_them() -> None:
    page = (DOCS / "reading-the-outcome.md").read_text()
    table = page.partition("| about | causes |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"`([a-z-]+)`", table)) == sorted(CAUSES)
