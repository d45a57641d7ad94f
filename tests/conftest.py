"""Fixtures and options for all tests: slow ones wait for --all."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

import schema_check
from survival import Survival

# In the background (nohup, `&`) these signals are ignored, and children inherit that: the tests' commands must have the
# same signal dispositions as in a terminal.
for number in (signal.SIGHUP, signal.SIGQUIT):
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)

# Speed belongs to scripts/bench: a busy machine is no failure.
settings.register_profile("evalmon", deadline=None)
settings.load_profile("evalmon")

pytest_plugins = ["nvml_standin.fixtures"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A real Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs chromium")
    with sync_api.sync_playwright() as playwright:
        # Its own sandbox needs user namespaces, which are not everywhere; the pages are ours.
        yield playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Every file with a schema that the test left must follow it, unless the test is about files that do not."""
    yield
    directory = getattr(item, "funcargs", {}).get("tmp_path")
    if isinstance(directory, Path) and item.get_closest_marker("forges_files") is None:
        problems = schema_check.problems(directory)
        assert not problems, "\n".join(problems)


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is that of Berlin, with daylight saving."""
    with _time_zone("Europe/Berlin", monkeypatch):
        yield


@pytest.fixture
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC."""
    with _time_zone("UTC", monkeypatch):
        yield


@contextmanager
def _time_zone(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", name)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
