"""What did the evals leave behind: their metrics and logs, found and read. Bounded, never under the lock."""

from __future__ import annotations

from collections.abc import Mapping

from evalmon_agent.store.experiment import Experiment
from evalmon_agent.summary.build import Evidence
from evalmon_agent.tracking.records import ExperimentState


def gather(experiment: Experiment, state: ExperimentState) -> Mapping[str, Evidence]:
    """The evidence of every eval, by name."""
    del experiment, state
    return {}
