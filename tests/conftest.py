"""Fixtures and options for all tests: slow ones wait for --all."""

from __future__ import annotations

import signal

import pytest

from survival import Survival

# Whoever starts the tests in the background (nohup, `&`) has these ignored, and what is ignored is inherited: the
# commands of the tests shall find a terminal's dispositions wherever they run.
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

pytest_plugins = ["nvml_standin.fixtures"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests marked `full` as well")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Survival())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--all"):
        return
    skip = pytest.mark.skip(reason="runs with scripts/test --all")
    for item in items:
        if "full" in item.keywords:
            item.add_marker(skip)
