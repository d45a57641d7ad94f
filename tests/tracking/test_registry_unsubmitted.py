"""Tests which evals wait for submission and which count as submitted, in any order of the registry's lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.tracking.records import Eval, ExperimentState, Job, Refusal
from evalmon_agent.tracking.registry import (
    Abandoned,
    Accepted,
    Adopted,
    Dropped,
    Entries,
    Intent,
    Planned,
    Record,
    Refused,
    Submission,
    Withdrawn,
    dropped,
    in_queue,
    last_begun_at,
    latest,
    refused,
    registrations,
    update_unsubmitted,
    waiting,
)
from evalmon_agent.words.states import State

SUBMISSION = Submission("r/a", "/exp/r/eval/a.slurm", token="p")
PLANNED = Planned(SUBMISSION, 10.0)
INTENT = Intent(SUBMISSION, 20.0, "login1", 1)
LIMIT = Refused("p", "QOSMaxSubmitJobPerUserLimit", 21.0, waits=True)
TAKEN = Accepted("p", "7", 22.0)


def state_of(*records: Record) -> tuple[bool, bool, list[str]]:
    """(waits, is being submitted, the jobs that it has)."""
    known = list(Entries(records))
    return bool(waiting(known)), any(entry.is_open for entry in known), [r.job_id for r in registrations(known)]


def test_a_planned_eval_waits_is_tried_and_waits_again_until_it_is_accepted() -> None:
    assert (True, False, []) == state_of(PLANNED)
    assert (False, True, []) == state_of(PLANNED, INTENT)
    assert (True, False, []) == state_of(PLANNED, INTENT, LIMIT)
    assert (False, True, []) == state_of(PLANNED, INTENT, LIMIT, INTENT)
    assert (True, False, []) == state_of(PLANNED, INTENT, LIMIT, INTENT, Abandoned("p", 23.0))
    assert (False, False, ["7"]) == state_of(PLANNED, INTENT, LIMIT, INTENT, TAKEN)
    assert (False, False, ["7"]) == state_of(PLANNED, INTENT, Abandoned("p", 23.0), TAKEN)


def test_an_eval_refused_for_a_limit_is_planned_afterwards() -> None:
    assert (True, False, []) == state_of(INTENT, LIMIT, PLANNED)
    assert (False, False, []) == state_of(INTENT, LIMIT)


def test_any_other_refusal_or_a_withdrawal_ends_the_waiting() -> None:
    assert (False, False, []) == state_of(PLANNED, INTENT, Refused("p", "Invalid partition", 21.0))
    assert (False, False, []) == state_of(PLANNED, Withdrawn("p", 30.0))


def test_an_eval_that_was_submitted_meanwhile_waits_no_more() -> None:
    other: list[Record] = [Intent(Submission("r/a", token="o"), 15.0, "login1", 1), Accepted("o", "9", 16.0)]
    assert (False, False, ["9"]) == state_of(PLANNED, *other)
    assert (True, False, ["9"]) == state_of(*other, PLANNED)


def test_evals_not_known_to_be_over_are_counted_and_array_tasks_one_by_one() -> None:
    array = Intent(Submission("r/x", tasks=(0, 1, 2), token="x"), 20.0, "login1", 1)
    later = Planned(Submission("r/q", "/q", token="q"), 22.0)
    known = list(Entries([PLANNED, INTENT, array, Accepted("x", "8", 21.0), later]))
    assert 4 == in_queue(known, None)
    over = Eval("r/x[1]", "8_1", State.FAILED, final=True, jobs=[Job("8_1", 20.0, "x")])
    earlier = Eval("r/x[2]", "1_2", State.FAILED, final=True, jobs=[Job("1_2", 1.0, "before")])
    state = ExperimentState("/exp", evals={ev.name: ev for ev in (over, earlier)})
    assert 3 == in_queue(known, state)
    assert 20.0 == last_begun_at(known)


def test_the_state_keeps_when_and_why_evals_wait_until_the_last_is_submitted() -> None:
    state = ExperimentState("/exp", waiting_for="a limit")
    array = Planned(Submission("r/x", "/x", tasks=(0, 1), token="x"), 11.0)
    update_unsubmitted(state, list(Entries([PLANNED, array])))
    assert {"r/a": 10.0, "r/x[0]": 11.0, "r/x[1]": 11.0} == {name: one.since for name, one in state.waiting.items()}
    assert "a limit" == state.waiting_for
    # One that is being submitted may wait again: its submitter may die.
    update_unsubmitted(state, list(Entries([PLANNED, INTENT])))
    assert ["r/a"] == list(state.waiting)
    update_unsubmitted(state, list(Entries([PLANNED, INTENT, TAKEN, array, Withdrawn("x", 12.0)])))
    assert ({}, None) == (state.waiting, state.waiting_for)


def test_slurms_last_refusal_is_kept_until_the_eval_is_submitted_again() -> None:
    array: list[Record] = [
        Intent(Submission("r/x", "/x", tasks=(0, 1), token="x"), 1.0, "h", 1),
        Refused("x", "no", 2.0),
    ]
    refusal = Refusal(2.0, "no", "/x")
    assert {"r/x[0]": refusal, "r/x[1]": refusal} == refused(list(Entries(array)))
    # A limit that passes is no refusal.
    assert {} == refused(list(Entries([PLANNED, INTENT, LIMIT])))
    again: list[Record] = [Intent(Submission("r/x", "/x", tasks=(1,), token="y"), 3.0, "h", 1)]
    assert ["r/x[0]"] == list(refused(list(Entries([*array, *again]))))
    assert ["r/x[0]"] == list(refused(list(Entries([*array, *again, Accepted("y", "7", 4.0)]))))
    assert (
        Refusal(5.0, "still no", "/x")
        == refused(list(Entries([*array, *again, Refused("y", "still no", 5.0)])))["r/x[1]"]
    )
    # An earlier job of the eval does not change.
    known = list(
        Entries([INTENT, TAKEN, Intent(Submission("r/a", "/a", token="q"), 30.0, "h", 1), Refused("q", "no", 31.0)])
    )
    assert (["7"], ["r/a"]) == ([r.job_id for r in registrations(known)], list(refused(known)))


def test_a_drop_lasts_until_the_eval_is_submitted_or_adopted_again() -> None:
    drop = Dropped(("r/a", "r/x[1]"), 40.0)
    taken: list[Record] = [INTENT, TAKEN, drop]
    assert {"r/a": 40.0, "r/x[1]": 40.0} == dropped(list(Entries(taken)))
    later = Intent(Submission("r/a", "/a", token="q"), 50.0, "h", 1)
    assert {"r/x[1]": 40.0} == dropped(list(Entries([*taken, later])))
    assert {"r/a": 60.0, "r/x[1]": 40.0} == dropped(list(Entries([*taken, later, Dropped(("r/a",), 60.0)])))
    # It is unknown whether a submission that never reached Slurm was one.
    assert {"r/a": 40.0, "r/x[1]": 40.0} == dropped(list(Entries([*taken, later, Abandoned("q", 51.0)])))
    waits = Planned(Submission("r/a", "/a", token="w"), 50.0)
    assert {"r/x[1]": 40.0} == dropped(list(Entries([*taken, waits])))
    assert {"r/a": 40.0, "r/x[1]": 40.0} == dropped(list(Entries([*taken, waits, Withdrawn("w", 51.0)])))
    assert {"r/x[1]": 40.0} == dropped(list(Entries([*taken, later, Refused("q", "no", 51.0)])))
    adopted = Adopted(Submission("r/a"), "8", 70.0, 69.0)
    assert ["r/x[1]"] == list(dropped(list(Entries([*taken, adopted]))))
    # A known submission does not change, and a drop counts as no submission.
    assert [("r/a", "7")] == [(r.submission.name, r.job_id) for r in registrations(list(Entries(taken)))]
    assert (1, 20.0) == (in_queue(list(Entries(taken)), None), last_begun_at(list(Entries(taken))))


RECORDS = st.lists(
    st.builds(
        lambda kind, token: {
            "plan": Planned(Submission("r/a", "/s", token=token), 1.0),
            "intent": Intent(Submission("r/a", token=token), 2.0, "h", 1),
            "taken": Accepted(token, f"1{token}", 3.0),
            "refused": Refused(token, "no", 3.0),
            "limit": Refused(token, "MaxSubmit", 3.0, waits=True),
            "gone": Abandoned(token, 3.0),
            "withdrawn": Withdrawn(token, 3.0),
            "drop": Dropped(("r/a",), float(token)),
        }[kind],
        st.sampled_from(["plan", "intent", "taken", "refused", "limit", "gone", "withdrawn", "drop"]),
        st.sampled_from("123"),
    ),
    max_size=20,
)


@given(RECORDS)
def test_one_submission_counts_and_an_accepted_eval_never_waits_in_any_order(records: list[Record]) -> None:
    known = list(Entries(records))
    counting = latest(known)
    assert len(counting) <= 1
    for entry in waiting(known):
        assert entry.accepted is None
        assert counting["r/a", None] is entry
    assert in_queue(known, None) + len(waiting(known)) <= 1


@given(RECORDS)
def test_lookups_by_token_name_and_job_match_a_full_scan(records: list[Record]) -> None:
    known = Entries(records)
    found = [entry for entry in known if entry.is_eval]
    assert known.of_name("r/a") == found
    for entry in found:
        assert known.of_token(entry.token) is entry
        assert entry.accepted is None or known.of_job(entry.accepted.job_id) is entry
    assert (known.of_token("?"), known.of_name("?"), known.of_job("?")) == (None, [], None)
