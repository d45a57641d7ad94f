"""Tests whose job a row of Slurm's is: jobs that had or get the same id are kept out, het jobs and arrays are found."""

from __future__ import annotations

from dataclasses import replace

import pytest

from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.states import State
from tracking.rows import JOB, T, Told, account, accounts, launcher, queue, registered, report, reported, row, told

OLD = account(State.COMPLETED, submit=-86_400, start=-86_000, end=-85_000)


@pytest.mark.survives("F18")
def test_the_row_of_an_earlier_job_with_the_id_is_ignored_even_if_it_is_the_only_one() -> None:
    found = told(queue(10), accounts(10, OLD))
    assert ([], [], False) == (found.path, found.attempts, found.eval.final)


@pytest.mark.survives("F18")
def test_of_two_jobs_with_one_id_only_the_submitted_one_counts() -> None:
    found = told(queue(60), accounts(60, OLD, account(State.FAILED, start=5, end=55)))
    assert ["PENDING>RUNNING", "RUNNING>FAILED"] == found.path


def test_a_submit_time_up_to_a_minute_before_sbatch_ran_is_accepted() -> None:
    assert 1 == len(told(accounts(10, account(State.PENDING, submit=-59))).attempts)
    assert 0 == len(told(accounts(10, account(State.PENDING, submit=-61))).attempts)


def test_a_row_with_the_evals_script_counts_whatever_the_controllers_clock_says() -> None:
    found = told(queue(10, row(State.RUNNING, submit=-300, start=-290)))
    found.take(queue(60), accounts(60, account(State.COMPLETED, submit=-300, start=-290, end=-250)))
    assert ["PENDING>RUNNING", "RUNNING>COMPLETED"] == found.path


def test_an_attempt_before_the_first_that_squeue_showed_counts() -> None:
    found = told(queue(4000, row(State.RUNNING, submit=3000, start=3900)))
    found.take(
        accounts(4000, account(State.NODE_FAIL, start=5, end=2900), account(State.RUNNING, submit=3000, start=3900))
    )
    assert [T + 1, T + 3000] == [a.submitted_at for a in found.attempts]


@pytest.mark.parametrize("command", ["/home/me/other.sh", launcher("another"), "/exp/evalmon/scripts/5f3a0/x.sh"])
def test_a_squeue_row_with_another_script_is_another_job(command: str) -> None:
    found = told(queue(10, row(State.RUNNING, start=5, command=command)))
    assert ([], []) == (found.path, found.attempts)
    assert T + 10 == found.eval.jobs[0].missing_at


@pytest.mark.parametrize("command", ["", "cell.sh", launcher("5f3a") + " --epochs 3"])
def test_a_row_with_the_evals_script_or_without_one_counts(command: str) -> None:
    assert ["PENDING>RUNNING"] == told(queue(10, row(State.RUNNING, start=5, command=command))).path


def test_a_row_without_a_script_that_is_older_than_the_job_is_ignored() -> None:
    assert [] == told(queue(10, row(State.RUNNING, submit=-300, start=-200, command=""))).path


def test_an_adopted_job_may_have_its_own_script_and_be_old() -> None:
    found = Told(Facts(registrations=[registered(token=None, at=5000)]))
    found.take(queue(5010, row(State.RUNNING, start=10, command="/home/me/eval.sh")))
    assert ["PENDING>RUNNING"] == found.path


def test_an_id_that_slurm_gave_twice_belongs_to_each_eval_in_its_time() -> None:
    first, second = registered("r/a"), registered("r/b", at=9000, token="9c")
    found = Told(Facts(registrations=[first, second]))
    rows = [account(State.FAILED, start=5, end=55), account(State.COMPLETED, submit=9001, start=9005, end=9055)]
    found.take(queue(9060, row(State.COMPLETED, submit=9001, start=9005, end=9055, command=launcher("9c"))))
    found.take(accounts(9060, *rows))
    assert {"r/a": "FAILED", "r/b": "COMPLETED"} == {name: ev.state for name, ev in found.state.evals.items()}
    assert [1, 1] == [len(ev.jobs[0].attempts) for ev in found.state.evals.values()]


def test_a_row_without_a_submit_time_only_shows_that_the_job_exists() -> None:
    found = told(queue(10, row(State.RUNNING, submit=None, start=5)))
    assert ([], [], None) == (found.path, found.attempts, found.eval.jobs[0].missing_at)
    assert [] == found.take(accounts(20, account(State.COMPLETED, submit=None, start=5, end=10)))


def test_rows_of_another_user_are_ignored_if_the_user_is_known() -> None:
    done = account(State.COMPLETED, start=5, end=55)
    assert [] == told(accounts(60, done, user="somebody")).path
    assert ["PENDING>RUNNING", "RUNNING>COMPLETED"] == told(accounts(60, done, user="me")).path


@pytest.mark.survives("F18")
def test_a_het_job_is_registered_by_number_and_matched_by_its_components() -> None:
    batch, other = (row(State.RUNNING, job_id=f"{JOB}+{n}", start=5) for n in (0, 1))
    found = told(queue(10, other, batch))
    assert (["PENDING>RUNNING"], 1) == (found.path, len(found.attempts))
    found.take(queue(60), accounts(60, account(State.FAILED, job_id=f"{JOB}+0", start=5, end=55)))
    assert "RUNNING>FAILED" == found.path[-1]


@pytest.mark.survives("F18")
def test_each_task_of_an_array_is_its_own_eval() -> None:
    tasks = [registered(f"r/a[{n}]", f"{JOB}_{n}") for n in range(2)]
    found = Told(Facts(registrations=tasks), queue(10, row(State.RUNNING, job_id=f"{JOB}_1", start=5)))
    assert {"r/a[0]": "PENDING", "r/a[1]": "RUNNING"} == {name: ev.state for name, ev in found.state.evals.items()}


def test_other_jobs_leave_no_trace() -> None:
    found = told(queue(10, row(State.RUNNING, job_id="999", start=5)))
    found.take(accounts(10, account(State.FAILED, job_id="999", start=5, end=9)))
    assert ([], []) == (found.path, found.attempts)


@pytest.mark.survives("F18")
@pytest.mark.parametrize("end", [State.RUNNING, State.COMPLETED, State.FAILED, State.CANCELLED, State.TIMEOUT])
def test_the_row_of_a_later_job_with_the_id_is_no_further_attempt(end: State) -> None:
    """The controller lost its state: the eval's job stays RUNNING in accounting, and another user's job has its id."""
    ours = account(end, start=5, end=None if end is State.RUNNING else 55)
    later = account(State.COMPLETED, submit=500, start=505, end=550)
    found = told(queue(10, row(State.RUNNING, start=5)), queue(600), accounts(600, ours, later))
    assert ([T + 1], False) == ([a.submitted_at for a in found.attempts], "RUNNING>PENDING" in found.path)


@pytest.mark.survives("F18")
def test_an_unobserved_requeue_of_a_finished_job_is_known_by_its_second_report() -> None:
    rows = account(State.FAILED, start=5, end=55), account(State.COMPLETED, submit=500, start=620, end=650)
    reports = report(reported(0, start=6, end=54, exit_code=3), reported(1, start=621, end=649, exit_code=0))
    found = told(queue(10, row(State.RUNNING, start=5)), reports, queue(700), accounts(700, *rows))
    assert ["RUNNING>FAILED", "FAILED>PENDING", "PENDING>RUNNING", "RUNNING>COMPLETED"] == found.path[1:]


class TestAdopted:
    """A job that `watch` adopted with its Submit at T."""

    SUBMIT = registered(token=None)
    ADOPTED = Facts(registrations=[replace(SUBMIT, submitted_at=T)])
    COMMAND = "/home/me/eval.sh"

    def test_an_earlier_job_with_the_id_is_another_job_in_squeue_and_sacct(self) -> None:
        found = Told(self.ADOPTED)
        found.take(queue(10, row(State.COMPLETED, submit=-50, start=-40, end=-30, command=self.COMMAND)))
        found.take(accounts(20, account(State.COMPLETED, submit=-50, start=-40, end=-30)))
        assert ([], []) == (found.path, found.attempts)

    def test_an_adopted_jobs_own_rows_count(self) -> None:
        found = Told(self.ADOPTED, queue(10, row(State.RUNNING, submit=0, start=5, command=self.COMMAND)))
        found.take(queue(60), accounts(60, account(State.FAILED, submit=0, start=5, end=50)))
        assert ["PENDING>RUNNING", "RUNNING>FAILED"] == found.path

    def test_the_attempts_before_and_after_a_requeue_count(self) -> None:
        found = Told(self.ADOPTED)
        before = account(State.REQUEUED, submit=-100, start=-90, end=-5)
        after = account(State.COMPLETED, submit=100, start=110, end=120)
        found.take(queue(200), accounts(200, before, account(State.NODE_FAIL, submit=0, start=5, end=90), after))
        assert [T - 100, T, T + 100] == [a.submitted_at for a in found.attempts]

    def test_an_adopted_job_that_had_reported_itself_is_one_eval(self) -> None:
        found = Told(report(reported(), name="hooked"), self.ADOPTED)
        assert ["hooked"] == list(found.state.evals)
        assert 1 == len(found.eval.jobs)

    def test_an_adopted_job_that_reports_itself_later_is_the_adopted_eval(self) -> None:
        found = Told(self.ADOPTED, report(reported(), name="hooked"), self.ADOPTED)
        assert [self.SUBMIT.submission.name] == list(found.state.evals)
        assert (1, 1) == (len(found.eval.jobs), len(found.reports))

    def test_a_later_job_with_the_id_of_an_ended_eval_is_a_new_eval(self) -> None:
        found = Told(self.ADOPTED, accounts(60, account(State.COMPLETED, submit=0, start=5, end=50)))
        later = replace(registered("r/b", token=None, at=9000), submitted_at=T + 9000)
        found.take(Facts(registrations=[later]))
        found.take(accounts(9100, account(State.FAILED, submit=9000, start=9001, end=9002)))
        assert {self.SUBMIT.submission.name: "COMPLETED", "r/b": "FAILED"} == {
            n: e.state for n, e in found.state.evals.items()
        }
