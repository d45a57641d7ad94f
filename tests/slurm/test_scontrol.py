"""What scontrol says of a job that is preempted for good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.scontrol import is_preempted_for_good, show_job


def test_the_question() -> None:
    assert ["scontrol", "-a", "-o", "show", "job", "7"] == show_job("7")


@pytest.mark.survives("F19")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # As 22.05 prints it: PreemptMode=CANCEL, PreemptMode=REQUEUE, and a job that nobody preempts.
        ("PreemptEligibleTime=2026-11-25T18:17:28 PreemptTime=2026-11-25T18:17:30", True),
        ("JobState=COMPLETING Reason=None Dependency=(null)", False),
        ("PreemptEligibleTime=2026-11-25T18:17:28 PreemptTime=None", False),
        ("PreemptTime=Unknown", False),
        ("", False),
    ],
)
def test_a_job_that_is_preempted_for_good(text: str, expected: bool) -> None:
    assert expected == is_preempted_for_good(text)


@given(st.text())
def test_no_text_raises(text: str) -> None:
    assert is_preempted_for_good(text) in {True, False}
