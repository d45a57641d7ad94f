"""Tests what the log restores of a lost state: existing blocks are not written again."""

from __future__ import annotations

from evalmon_agent.experiment.state import recover
from evalmon_agent.figures import Figures
from evalmon_agent.tracking.blocks import BlockKind, all_complete, blocks_in, compute_metrics, join, note, state_change
from evalmon_agent.tracking.records import ExperimentState, Logged, Measurement, MonitorJob, Recovered
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.states import State
from tracking.rows import JOB, NAME, T, Told, account, accounts, queue, registered, row


def changed(previous: State, current: State, *, name: str = NAME, job_id: str = JOB) -> list[str]:
    return state_change(T, name, job_id, previous=previous, current=current, at=T, elapsed_s=1.0, result_log="logs/")


def recovered(*log: list[str], name: str = NAME) -> Told:
    """An eval registered into a state that was restored from this log."""
    found = Told()
    recover(found.state, blocks_in(join(log)))
    found.take(Facts(registrations=[registered(name)]))
    return found


STARTED = changed(State.PENDING, State.RUNNING)
FAILED = changed(State.RUNNING, State.FAILED)


def test_an_empty_log_gives_an_empty_state() -> None:
    state = ExperimentState(experiment="/exp")
    assert frozenset() == recover(state, [])
    assert (Recovered(), None, 0) == (state.recovered, state.completion, state.completions)


def test_the_completion_jobs_in_the_log_are_restored() -> None:
    log = [
        note(T, BlockKind.COMPLETION_SUBMITTED, "Summary", {"Job ID": "7"}),
        note(T, BlockKind.COMPLETION_SUBMITTED, "Summary", {}),
        note(T, BlockKind.ALERT, "Summary", {"Job ID": "8"}),
    ]
    assert {"7"} == recover(ExperimentState(experiment="/exp"), blocks_in(join(log)))


def test_transitions_in_the_log_are_not_logged_again() -> None:
    found = recovered(STARTED, FAILED)
    assert [Logged(JOB, State.RUNNING), Logged(JOB, State.FAILED)] == found.eval.logged
    found.take(queue(60), accounts(60, account(State.FAILED, start=5, end=55)))
    assert ([], True) == (found.path, found.eval.final)


def test_missing_transitions_are_logged() -> None:
    found = recovered(STARTED)
    found.take(queue(60), accounts(60, account(State.FAILED, start=5, end=55)))
    assert ["RUNNING>FAILED"] == found.path


def test_facts_older_than_the_log_log_nothing() -> None:
    found = recovered(STARTED, FAILED)
    found.take(queue(60, row(State.RUNNING, start=5)))
    assert ([], State.RUNNING) == (found.path, found.eval.state)


def test_a_resumption_is_logged_after_a_suspension_that_only_the_log_has() -> None:
    found = recovered(STARTED, changed(State.RUNNING, State.SUSPENDED))
    found.take(queue(60, row(State.SUSPENDED, start=5)), queue(120, row(State.RUNNING, start=5)))
    assert ["SUSPENDED>RUNNING"] == found.path


def test_figures_in_the_log_are_not_logged_again() -> None:
    found = recovered(STARTED, FAILED, compute_metrics(T, NAME, JOB, Figures(), state=State.FAILED))
    figures = Facts(measurements=[Measurement((NAME, JOB, T + 1, None), Figures(elapsed_s=50.0))])
    found.take(accounts(60, account(State.FAILED, start=5, end=55)), figures)
    assert ([], Figures(elapsed_s=50.0)) == (found.measured, found.attempts[0].figures)


def test_two_evals_whose_printed_names_are_equal_keep_their_own_lines() -> None:
    hostile, plain = "r/\x1b", "r/\\x1b"
    log = [changed(State.PENDING, State.RUNNING, name=n, job_id=j) for n, j in ((hostile, "1"), (plain, "2"))]
    found = Told()
    recover(found.state, blocks_in(join(log)))
    found.take(Facts(registrations=[registered(hostile, "1"), registered(plain, "2", token="9c")]))
    logged = {name: ev.logged for name, ev in found.state.evals.items()}
    assert {hostile: [Logged("1", State.RUNNING)], plain: [Logged("2", State.RUNNING)]} == logged


def test_each_job_of_a_retried_eval_gets_its_own_lines_back() -> None:
    found = recovered(STARTED, FAILED, changed(State.PENDING, State.RUNNING, job_id="200"))
    found.take(Facts(registrations=[registered(job_id="200", at=100, token="9c")]))
    assert [Logged(JOB, State.RUNNING), Logged(JOB, State.FAILED), Logged("200", State.RUNNING)] == found.eval.logged
    assert Recovered() == found.state.recovered


def test_a_logged_end_of_the_experiment_is_restored() -> None:
    end = all_complete(T, {State.FAILED: 1}, total_time_s=60, outcome="")
    found = recovered(STARTED, FAILED, end)
    assert (MonitorJob(status="complete"), 1) == (found.state.completion, found.state.completions)


def test_a_logged_end_is_ignored_if_something_happened_afterwards() -> None:
    end = all_complete(T, {State.FAILED: 1}, total_time_s=60, outcome="")
    found = recovered(STARTED, FAILED, end, changed(State.FAILED, State.PENDING))
    assert (None, 1) == (found.state.completion, found.state.completions)
