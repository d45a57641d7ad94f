"""Tests which jobs are evalmon's own, and whether the experiment is over."""

from __future__ import annotations

import pytest

from evalmon_agent.tracking.records import ExperimentState, Logged, MonitorJob
from evalmon_agent.tracking.registry import (
    Abandoned,
    Accepted,
    Entries,
    Intent,
    Record,
    Refused,
    Submission,
    What,
    update_monitor_jobs,
)
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.states import State
from tracking.rows import Told, queue, registered, row, told

COMPLETE, REFUSED, SUBMITTED = MonitorJob.COMPLETE, MonitorJob.REFUSED, MonitorJob.SUBMITTED


def submitted(token: str, what: What, job_id: str | None = None) -> list[Record]:
    intent = Intent(Submission(token=token, what=what), 1.0, "login1", 4711)
    return [intent] if job_id is None else [intent, Accepted(token, job_id, 2.0)]


def helped(*records: Record, state: ExperimentState | None = None) -> ExperimentState:
    state = state if state is not None else ExperimentState(experiment="/exp")
    update_monitor_jobs(state, list(Entries(records)))
    return state


def done() -> Told:
    found = told(queue(60, row(State.COMPLETED, start=5, end=55)))
    found.state.completion = MonitorJob("7", COMPLETE)
    return found


def test_an_empty_registry_has_no_monitor_jobs() -> None:
    state = helped()
    assert (None, None) == (state.sidecar, state.completion)


def test_the_latest_accepted_jobs_are_the_monitor_jobs() -> None:
    records = [*submitted("a", "sidecar", "1"), *submitted("b", "completion", "2"), *submitted("c", "sidecar", "3")]
    state = helped(*records, *submitted("d", "completion", "4"))
    assert (MonitorJob("3"), MonitorJob("4", SUBMITTED)) == (state.sidecar, state.completion)


@pytest.mark.parametrize("fate", [[], [Refused("n", "no", 3.0)], [Abandoned("n", 3.0)]])
def test_a_submission_in_progress_or_refused_does_not_replace_the_last_job(fate: list[Record]) -> None:
    new: list[Record] = [Intent(Submission(token="n", what="completion"), 2.5, "login1", 4711), *fate]
    assert MonitorJob("2", SUBMITTED) == helped(*submitted("b", "completion", "2"), *new).completion


def test_a_refused_completion_job_is_recorded_as_refused() -> None:
    state = helped(*submitted("b", "completion"), Refused("b", "no", 2.0))
    assert MonitorJob(None, REFUSED) == state.completion


def test_a_submission_in_progress_is_no_job_yet() -> None:
    assert None is helped(*submitted("b", "completion")).completion


def test_a_refusal_is_forgotten_once_a_job_is_accepted() -> None:
    refused: list[Record] = [*submitted("b", "completion"), Refused("b", "no", 2.0)]
    state = helped(*refused)
    assert MonitorJob("9", SUBMITTED) == helped(*refused, *submitted("c", "completion", "9"), state=state).completion


def test_an_abandoned_submission_that_turns_up_counts() -> None:
    late: list[Record] = [*submitted("b", "completion"), Abandoned("b", 3.0), Accepted("b", "2", 4.0)]
    assert MonitorJob("2", SUBMITTED) == helped(*late).completion


def test_the_experiment_stays_over_while_every_eval_is_over() -> None:
    found = done()
    assert MonitorJob("7", COMPLETE) == helped(*submitted("b", "completion", "7"), state=found.state).completion


def test_a_new_completion_job_for_ended_evals_keeps_the_experiment_over() -> None:
    found = done()
    assert MonitorJob("8", COMPLETE) == helped(*submitted("b", "completion", "8"), state=found.state).completion


def test_an_added_eval_reopens_the_experiment() -> None:
    found = done()
    found.take(Facts(registrations=[registered("r/new", "124", at=100, token="9c")]))
    assert MonitorJob("7", SUBMITTED) == helped(*submitted("b", "completion", "7"), state=found.state).completion


def test_an_eval_that_is_active_again_reopens_the_experiment() -> None:
    found = done()
    found.take(queue(100, row(State.RUNNING, submit=90, start=95)))
    assert MonitorJob("7", SUBMITTED) == helped(*submitted("b", "completion", "7"), state=found.state).completion


def test_the_log_shows_that_the_experiment_is_over_after_a_lost_state() -> None:
    found = told()
    found.eval.logged = [Logged("123", State.COMPLETED)]
    found.state.completion = MonitorJob(None, COMPLETE)
    assert MonitorJob(None, COMPLETE) == helped(state=found.state).completion


def test_the_experiment_is_over_only_if_there_are_evals_and_each_is_over() -> None:
    assert not ExperimentState(experiment="/exp").all_final
    assert not told().state.all_final
    assert done().state.all_final
    # The user withdrew the only eval, which was waiting.
    assert ExperimentState(experiment="/exp", dropped={"r/a": 1.0}).all_final
