"""What all tests share: the folder of tests is importable, and slow ones wait for --all."""

from __future__ import annotations

import pytest

pytest_plugins = ["nvml_standin.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests marked `full` as well")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        return
    skip = pytest.mark.skip(reason="runs with scripts/test --all")
    for item in items:
        if "full" in item.keywords:
            item.add_marker(skip)
