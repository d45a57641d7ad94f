"""Tests that CONTRIBUTING.md is true: the rooms and their order, the files that it names, how long a file may be."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "evalmon_agent"
TEXT = (ROOT / "CONTRIBUTING.md").read_text()
WORDS = sorted(set(re.findall(r"`([^`\s]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL))))
# Paths with / or EXP first are elsewhere; an upper-case word stands for many names.
PATHS = [word for word in WORDS if re.search(r"^(?!/|EXP)(.*/|.*\.(py|md|toml)$)", word)]


def rooms() -> set[str]:
    """Each package, as the table names it."""
    return {f"{init.parent.relative_to(PACKAGE)}/" for init in PACKAGE.glob("*/**/__init__.py")}


def test_the_table_of_rooms_has_each_package_once() -> None:
    table = TEXT.partition("| room |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines()[2:]]
    named = [name for cell in cells for name in re.findall(r"`([^`]+/)`", cell)]
    assert sorted(named) == sorted(rooms())


def test_the_rooms_are_in_the_order_of_the_layers_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    block = TEXT.partition("## The rooms")[2].split("```")[1]
    assert block.split("\n")[1:-1] == layers


@pytest.mark.parametrize("path", PATHS)
def test_each_named_path_exists(path: str) -> None:
    pattern = re.sub(r"[^/]*[A-Z]{2,}[^/]*$", "*", path)
    assert any(list(base.glob(pattern)) for base in (ROOT, PACKAGE, PACKAGE / "evidence")) or list(PACKAGE.rglob(path))


def test_the_files_of_the_diagram_exist_in_the_code() -> None:
    diagram = TEXT.partition("## How the data flows")[2].split("```")[1]
    code = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    names = set(re.findall(r"\b[a-z_]+\.(?:jsonl?|log|md|csv)\b", diagram))
    assert len(names) >= 5
    assert {name for name in names if f'"{name}"' not in code} == set()


def test_each_named_script_exists() -> None:
    named = set(re.findall(r"\bscripts/([\w-]+)", TEXT))
    assert named - {path.name for path in (ROOT / "scripts").iterdir()} == set()


def test_no_file_is_longer_than_allowed() -> None:
    [allowed] = re.findall(r"Past (\d+) lines it is split", TEXT)
    assert [path for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) > int(allowed)] == []
