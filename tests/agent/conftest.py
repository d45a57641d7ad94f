"""Fixtures for the agent's tests."""

from pathlib import Path

import pytest

from agent.in_a_job import Experiment


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    """A fresh experiment with a job in it."""
    directory = tmp_path / "exp"
    directory.mkdir()
    return Experiment(directory)
