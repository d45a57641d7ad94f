"""What does the log say that a lost state knew: so that nothing is logged a second time. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from evalmon_agent.logbook.read import Block, transition
from evalmon_agent.tracking.records import ExperimentState, HelperJob, Recovered


def recover(state: ExperimentState, log: Iterable[Block]) -> None:
    """Take the blocks of monitor.log, in order, into a new, empty state."""
    recovered = Recovered()
    complete = False
    for block in log:
        changed = transition(block)
        if changed is not None:
            recovered.logged.setdefault(block.subject, []).append(changed)
            complete = False
        elif block.kind == "COMPUTE_METRICS" and "Job ID" in block.fields:
            recovered.measured.setdefault(block.subject, []).append(block.fields["Job ID"])
        elif block.kind == "ALL_COMPLETE":
            state.completions += 1
            complete = True
    state.recovered = recovered
    if complete:
        state.completion = HelperJob(status="complete")
