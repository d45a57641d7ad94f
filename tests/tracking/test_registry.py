"""Tests what the registry's entries mean: an acceptance counts whatever else was written."""

from __future__ import annotations

from evalmon_agent.tracking.registry import (
    Abandoned,
    Accepted,
    Adopted,
    Entries,
    Entry,
    Intent,
    Refused,
    Registration,
    Submission,
    registrations,
)

SUBMISSION = Submission("r/t/epoch0", "/exp/r/eval/t_epoch0.slurm", "/exp/r/eval", token="t1")
INTENT = Intent(SUBMISSION, 100.0, "login1", 4711)
ACCEPTED = Accepted("t1", "123", 101.0)
REFUSED = Refused("t1", "Invalid partition", 101.0)
ABANDONED = Abandoned("t1", 102.0)


def test_an_intent_without_an_outcome_is_open() -> None:
    [entry] = list(Entries([INTENT]))
    assert (True, []) == (entry.is_open, registrations([entry]))


def test_each_outcome_closes_it() -> None:
    closed = [next(iter(Entries([INTENT, outcome]))).is_open for outcome in (ACCEPTED, REFUSED, ABANDONED)]
    assert [False, False, False] == closed


def test_an_accepted_eval_is_registered_with_the_time_of_its_intent() -> None:
    expected = Registration(SUBMISSION, "123", 100.0)
    assert [expected] == registrations(list(Entries([INTENT, ACCEPTED])))


def test_an_acceptance_counts_even_if_it_comes_late_or_twice() -> None:
    again = Accepted("t1", "999", 105.0)
    for records in ([INTENT, ABANDONED, ACCEPTED], [INTENT, ACCEPTED, again], [INTENT, INTENT, ACCEPTED, REFUSED]):
        assert ["123"] == [r.job_id for r in registrations(list(Entries(records)))]


def test_an_outcome_without_its_intent_is_ignored() -> None:
    assert [] == list(Entries([ACCEPTED, REFUSED, ABANDONED]))


def test_entries_are_in_the_order_of_their_intents() -> None:
    other = Intent(Submission(token="t2", what="sidecar"), 99.0, "login1", 4711)
    assert [
        Entry(SUBMISSION, 100.0, INTENT, ACCEPTED),
        Entry(other.submission, 99.0, other),
    ] == list(Entries([INTENT, other, ACCEPTED]))


def test_monitor_jobs_are_no_evals() -> None:
    ours = Intent(Submission(token="t1", what="completion"), 100.0, "login1", 4711)
    assert [] == registrations(list(Entries([ours, ACCEPTED])))


def test_each_task_of_an_array_is_an_eval_with_its_own_directory() -> None:
    array = Intent(Submission("r/t", "/exp/r/eval/t.slurm", "/exp/r/eval/t", (0, 7), token="t1"), 100.0, "login1", 4711)
    found = registrations(list(Entries([array, ACCEPTED])))
    assert [("r/t[0]", "123_0", "/exp/r/eval/t/0"), ("r/t[7]", "123_7", "/exp/r/eval/t/7")] == [
        (r.submission.name, r.job_id, r.submission.output_dir) for r in found
    ]


THEIRS = Submission("r/t/epoch0", "/exp/r/eval/t.slurm", "/exp/r/eval")
ADOPTED = Adopted(THEIRS, "123", 900.0, 100.0)


def test_an_adopted_job_is_registered_with_its_submit_time_and_without_a_token() -> None:
    expected = Registration(THEIRS, "123", 100.0, 100.0)
    [entry] = list(Entries([ADOPTED, ADOPTED]))
    assert ([expected], False) == (registrations([entry]), entry.is_open)


def test_tasks_of_an_adopted_array_share_a_working_directory_and_have_no_output_directory() -> None:
    array = Adopted(Submission("r/t", tasks=(0, 7)), "123", 900.0, 100.0)
    assert [("r/t[0]", "123_0", None), ("r/t[7]", "123_7", None)] == [
        (r.submission.name, r.job_id, r.submission.output_dir) for r in registrations(list(Entries([array])))
    ]


def test_a_later_job_with_the_id_is_another_job() -> None:
    later = Adopted(Submission("other"), "123", 9000.0, 8000.0)
    assert ["r/t/epoch0", "other"] == [r.submission.name for r in registrations(list(Entries([ADOPTED, later])))]
