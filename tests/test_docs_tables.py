"""Tests that the pages match the code: they list what it has, and it has what they name.

`scripts/docs` writes the tables of files.md and commands.md.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import get_args

import click
import msgspec
import pytest
import yaml

from docs_tables import with_tables
from evalmon_agent import errors
from evalmon_agent.cli.group import COMMANDS, IN_JOBS, main
from evalmon_agent.errors import StoppedError
from evalmon_agent.evidence.diagnosis.causes import CAUSES
from evalmon_agent.experiment import experiment
from evalmon_agent.settings import MonitorJobSettings, NotificationEvent, Settings, parse
from evalmon_agent.summary import openmetrics
from evalmon_agent.summary.records import Summary
from evalmon_agent.tracking.blocks import BlockKind
from evalmon_agent.tracking.verdict import Verdict
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
    in_text = re.findall(r"(?:(?<!`)`|^\$ )evalmon ([a-z]+)((?: [^`\n#]+)?)", page.read_text(), re.MULTILINE)
    blocks = re.findall(r"^```(?:sh|bash)\n(.+?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    spans = in_text + re.findall(r"^evalmon ([a-z]+)((?: [^\n#>]+)?)", "\n".join(blocks), re.MULTILINE)
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


def test_every_verdict_and_every_event_is_explained() -> None:
    verdicts = re.findall(r"^\| `([a-z]+)` \|", (DOCS / "reading-the-outcome.md").read_text(), re.MULTILINE)
    assert sorted(verdicts) == sorted(get_args(Verdict))
    events = (DOCS / "notifications.md").read_text().partition("| event | when |")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"^\| `([a-z-]+)` \|", events, re.MULTILINE)) == sorted(get_args(NotificationEvent))


def test_every_exit_status_is_explained() -> None:
    statuses = {value for name, value in vars(errors).items() if name.isupper() and isinstance(value, int)}
    statuses |= {error.exit_status for error in vars(errors).values() if is_error(error)}
    table = (DOCS / "commands.md").read_text().partition("| exit status | meaning |")[2].partition("\n\n")[0]
    named = {int(row.split("|")[1]) for row in table.splitlines()[2:]}
    assert named == (statuses | {0}) - {StoppedError.exit_status}


def is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, errors.EvalmonError)


def test_every_file_of_an_experiment_and_every_field_of_the_summary_is_described() -> None:
    names = re.findall(r"= _Path\(\"(.+\..+)\"\)", inspect.getsource(experiment))
    assert len(names) >= 10
    assert [name for name in names if f"`{name}`" not in PAGE] == []
    section = PAGE.partition("## summary.json\n")[2].partition(". ")[0]
    assert tuple(re.findall(r"`([a-z_]+)`", section)) == Summary.__struct_fields__


def test_every_metric_for_prometheus_is_described() -> None:
    page = (DOCS / "prometheus.md").read_text()
    table = page.partition("| metric | what it is |")[2].partition("\n\n")[0]
    metrics = set(re.findall(r"\"(evalmon_[a-z_]+)\"", inspect.getsource(openmetrics)))
    assert set(re.findall(r"`(evalmon_[a-z_]+)`", table)) == metrics
    assert set(re.findall(r"evalmon_[a-z_]+", page)) == metrics


# How evalmon's own processes and jobs talk to each other.
INTERNAL_VARIABLES = {"EVALMON_UNMONITORED", "EVALMON_SUBMIT_ENVIRONMENT"}


def test_every_environment_variable_is_described() -> None:
    variables = set(re.findall(r"\"(EVALMON_[A-Z_]+[A-Z])\"", code()))
    assert len(variables) >= 8
    pages = "\n".join(page.read_text() for page in DOCS.glob("*.md"))
    assert [name for name in variables - INTERNAL_VARIABLES if f"`{name}" not in pages] == []


def code() -> str:
    return "\n".join(path.read_text() for path in (DOCS.parent / "evalmon_agent").rglob("*.py"))


def test_a_message_that_troubleshooting_quotes_is_one_of_evalmon() -> None:
    """What it replaces by `...`, and what stands for another word, is left out."""
    texts = re.sub(r"\"\s*\n\s*f?\"", "", code())  # one on several lines is one
    rows = re.findall(r"^\| (.+?) \| ", (DOCS / "troubleshooting.md").read_text(), re.MULTILINE)
    spans = [span for row in rows for span in re.findall(r"`([^`]+)`", row)]
    parts = [part.strip(" ;,()") for span in spans for part in re.split(r"\.\.\.|\S*[A-Z0-9_/<>.:]+\S*", span)]
    phrases = [part for part in parts if len(part.split()) >= 3]
    assert len(phrases) >= 15
    assert [phrase for phrase in phrases if phrase not in texts] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_a_page_has_no_phrase_that_sounds_translated(page: Path) -> None:
    assert re.findall(r"\bof ours\b|\bto be had\b|\bwhat is there\b|\bfor lack of\b", page.read_text()) == []
