"""Tests that the tables in docs/ match the code: `scripts/docs` writes those of files.md and commands.md."""

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
PAGES = sorted([*DOCS.glob("*.md"), *DOCS.parent.glob("*.md")])


@pytest.mark.parametrize("name", ["files.md", "commands.md"])
def test_the_pages_have_the_tables_of_the_code(name: str) -> None:
    page = (DOCS / name).read_text()
    assert with_tables(page) == page


def test_every_command_and_option_is_listed() -> None:
    page = (DOCS / "commands.md").read_text()
    for name in COMMANDS.keys() | IN_JOBS.keys():
        assert f"`evalmon {name}" in page
        command = main.get_command(click.Context(main), name)
        assert command is not None
        section = page.partition(f"### evalmon {name}\n")[2].partition("\n### ")[0]
        options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
        assert [option.opts for option in options if max(option.opts, key=len) not in section] == []


def options_of(name: str) -> set[str]:
    if name in IN_JOBS:
        section = (DOCS / "commands.md").read_text().partition(f"### evalmon {name}\n")[2].partition("\n### ")[0]
        return set(re.findall(r"--[a-z-]+", section))
    command = main.get_command(click.Context(main), name)
    assert command is not None
    return {option for parameter in command.params for option in parameter.opts} | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_each_link_leads_to_an_existing_file_and_heading(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {
            re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings
        }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_the_commands_and_options_that_a_page_names_exist(page: Path) -> None:
    spans = re.findall(r"(?:(?<!`)`|^\$ )evalmon ([a-z]+)((?: [^`\n#]+)?)", page.read_text(), re.MULTILINE)
    for name, words in spans:
        assert name in COMMANDS.keys() | IN_JOBS.keys()
        named = {word.partition("=")[0] for word in words.partition(" -- ")[0].split() if word.startswith("--")}
        assert named - {"--"} <= options_of(name), name


def test_every_setting_is_listed_with_its_default() -> None:
    block = (DOCS / "settings.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    assert yaml.safe_load(block) == msgspec.to_builtins(Settings())
    assert parse(block.encode(), path="evalmon.yaml", fast_polling=False) == Settings()
    assert all(f"{name}:" in block for name in (*Settings.__struct_fields__, *MonitorJobSettings.__struct_fields__))


def test_every_column_is_listed() -> None:
    ours = tuple(GpuColumn)[len(NVIDIA_SMI_COLUMNS) :]
    assert all(f"| `{column.header}` | {column.meaning} |\n" in PAGE for column in (*ours, *HostColumn))


def test_every_kind_of_block_is_listed_once() -> None:
    assert all(PAGE.count(f"| `{kind.name}` | {kind.value} |\n") == 1 for kind in BlockKind)


def test_every_cause_is_listed() -> None:
    page = (DOCS / "reading-the-outcome.md").read_text()
    table = page.partition("| about | causes |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"`([a-z-]+)`", table)) == sorted(CAUSES)
