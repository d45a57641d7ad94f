"""Fixtures for all tests: `standin`, the compiled library's folder, and `world`, two simulated GPUs for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvml_standin.build import build
from nvml_standin.world import World


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.getbasetemp() / "nvml_standin")


@pytest.fixture
def world(tmp_path: Path, standin: Path) -> World:
    return World(tmp_path, standin)
