"""Which jobs are ours, and whether the end is the end."""

from __future__ import annotations

import pytest

from evalmon_agent.tracking.fold import Facts
from evalmon_agent.tracking.monitor_job_states import COMPLETE, REFUSED, SUBMITTED, all_final, update_monitor_jobs
from evalmon_agent.tracking.records import ExperimentState, Logged, MonitorJob
from evalmon_agent.tracking.registry import Abandoned, Accepted, Entries, Intent, Record, Refused, Submission, What
from evalmon_agent.words.states import State
from tracking.rows import Told, queue, registered, row, told


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


def test_an_empty_registry_has_no_helpers() -> None:
    state = helped()
    assert (None, None) == (state.sidecar, state.completion)


def test_the_latest_ones_that_slurm_took_are_ours() -> None:
    records = [*submitted("a", "sidecar", "1"), *submitted("b", "completion", "2"), *submitted("c", "sidecar", "3")]
    state = helped(*records, *submitted("d", "completion", "4"))
    assert (MonitorJob("3"), MonitorJob("4", SUBMITTED)) == (state.sidecar, state.completion)


@pytest.mark.parametrize("fate", [[], [Refused("n", "no", 3.0)], [Abandoned("n", 3.0)]])
def test_one_that_is_on_its_way_or_was_refused_does_not_make_the_last_one_forgotten(fate: list[Record]) -> None:
    new: list[Record] = [Intent(Submission(token="n", what="completion"), 2.5, "login1", 4711), *fate]
    assert MonitorJob("2", SUBMITTED) == helped(*submitted("b", "completion", "2"), *new).completion


def test_a_completion_job_that_slurm_refused_is_on_record_as_refused() -> None:
    state = helped(*submitted("b", "completion"), Refused("b", "no", 2.0))
    assert MonitorJob(None, REFUSED) == state.completion


def test_one_that_is_on_its_way_is_nothing_yet() -> None:
    assert None is helped(*submitted("b", "completion")).completion


def test_a_refusal_is_forgotten_once_one_is_taken() -> None:
    refused: list[Record] = [*submitted("b", "completion"), Refused("b", "no", 2.0)]
    state = helped(*refused)
    assert MonitorJob("9", SUBMITTED) == helped(*refused, *submitted("c", "completion", "9"), state=state).completion


def test_one_that_was_abandoned_and_turned_up_after_all_counts() -> None:
    late: list[Record] = [*submitted("b", "completion"), Abandoned("b", 3.0), Accepted("b", "2", 4.0)]
    assert MonitorJob("2", SUBMITTED) == helped(*late).completion


def test_the_end_stays_the_end_while_every_eval_is_over() -> None:
    found = done()
    assert MonitorJob("7", COMPLETE) == helped(*submitted("b", "completion", "7"), state=found.state).completion


def test_a_new_completion_job_for_evals_that_are_over_changes_nothing_about_the_end() -> None:
    found = done()
    assert MonitorJob("8", COMPLETE) == helped(*submitted("b", "completion", "8"), state=found.state).completion


def test_an_eval_that_is_added_opens_the_end_again() -> None:
    found = done()
    found.take(Facts(registrations=[registered("r/new", "124", at=100, token="9c")]))
    assert MonitorJob("7", SUBMITTED) == helped(*submitted("b", "completion", "7"), state=found.state).completion


def test_an_eval_that_is_active_again_opens_the_end_again() -> None:
    found = done()
    found.take(queue(100, row(State.RUNNING, submit=90, start=95)))
    assert MonitorJob("7", SUBMITTED) == helped(*submitted("b", "completion", "7"), state=found.state).completion


def test_after_a_lost_state_the_logs_word_is_enough_for_the_end() -> None:
    found = told()
    found.eval.logged = [Logged("123", State.COMPLETED)]
    found.state.completion = MonitorJob(None, COMPLETE)
    assert MonitorJob(None, COMPLETE) == helped(state=found.state).completion


def test_all_is_final_only_where_there_are_evals_and_each_is_over() -> None:
    assert not all_final(ExperimentState(experiment="/exp"))
    assert not all_final(told().state)
    assert all_final(done().state)
    # The user took back what waited, and nothing else was there.
    assert all_final(ExperimentState(experiment="/exp", dropped={"r/a": 1.0}))
