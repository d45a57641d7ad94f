"""Tests that a state as it was saved is followed only once there are facts, and that none of them is overlooked."""

from __future__ import annotations

from pathlib import Path

from evalmon_agent.experiment import state as state_file
from evalmon_agent.monitor.poll import read_local
from evalmon_agent.tracking.records import ExperimentState, Outbox
from evalmon_agent.tracking.registry import Accepted, Intent, Submission
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.job_id import JobId
from experiments import Exp, ended

LOST_AFTER_S = 1800.0


def held(exp: Exp) -> state_file.Held:
    saved = state_file.read(exp.experiment)
    assert saved is not None
    return saved


def test_what_was_saved_has_no_news_and_is_not_followed(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11", r1_b="12")
    exp.observer().record()
    saved = held(exp)
    facts, entries = read_local(exp.experiment, saved)
    assert (not facts, len(entries)) == (True, 2)
    assert saved.take_in(facts, lost_after_s=LOST_AFTER_S) == []
    assert (saved.is_tracked, saved.is_changed()) == (False, False)


def test_a_task_that_the_state_lacks_is_found_among_the_others_of_its_array(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    array = Submission("r1/many", "/s", tasks=(0, 1, 2), token="t")
    exp.experiment.ledger.append(Intent(array, 1.0, "host", 1), Accepted("t", JobId("20"), 2.0))
    saved = state_file.unsaved(exp.experiment)
    facts, entries = read_local(exp.experiment, saved)
    assert ["r1/a", "r1/many[0]", "r1/many[1]", "r1/many[2]"] == [r.submission.name for r in facts.registrations]
    saved.take_in(Facts(registrations=facts.registrations[:3]), lost_after_s=LOST_AFTER_S)
    again = saved.unregistered(entries)
    assert [("r1/many[2]", "20_2")] == [(r.submission.name, r.job_id) for r in again]


def test_what_is_owed_is_known_of_a_state_that_is_not_followed(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.slurm.show([ended("11")])
    exp.observer().observe_once(at_least_s=0)
    for is_saved in (False, True):
        observer = exp.observer()

        def change(state: ExperimentState, now: float, *, is_saved: bool = is_saved) -> list[list[str]]:
            del now
            state.completions += is_saved
            return []

        state = observer.transact(change)
        assert ["r1/a"] == [owed.ev.name for owed in observer.unmeasured(state)]


def test_what_a_killed_observer_left_to_be_logged_does_not_hide_what_is_owed(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.slurm.show([ended("11")])
    exp.observer().observe_once(at_least_s=0)
    saved = held(exp)
    saved.state.outbox = Outbox(len(exp.log().encode()), "[note]\n\n")
    saved.save()
    assert exp.evalmon("status", ".").returncode == 0
    assert exp.log().count("COMPUTE_METRICS") == 1
