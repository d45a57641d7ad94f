"""Tests alerts about pending evals that need a person; reasons that pass by themselves are no alert."""

from __future__ import annotations

import pytest

from evalmon_agent.tracking.alerts import action_for, starved_by
from evalmon_agent.tracking.records import Job, QueueAnswer
from evalmon_agent.tracking.tracker import Facts, Tracker
from evalmon_agent.words.states import State
from tracking.rows import NAME, T, Told, queue, registered, row, told

COMES_AND_GOES = [
    "None",
    "Priority",
    "Resources",
    "Dependency",
    "BeginTime",
    "JobArrayTaskLimit",
    "Prolog",
    "Cleaning",
    "QOSMaxJobsPerUserLimit",
    "AssocMaxJobsLimit",
    "QOSMaxCpuPerUserLimit",
    "QOSMaxMemoryPerUser",
    "QOSMaxNodePerUserLimit",
    "MaxGRESPerAccount",
    "QOSMaxGRESPerUser",
    "QOSMaxSubmitJobPerUserLimit",
    "SomethingNew",
]
NEVER = [
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "BadConstraints",
    "InvalidAccount",
    "InvalidQOS",
    "DependencyNeverSatisfied",
    "QOSMaxWallDurationPerJobLimit",
    "AssocMaxWallDurationPerJobLimit",
    "QOSMaxCpuPerJobLimit",
    "QOSMaxGRESPerJob",
    "QOSMinCpuNotSatisfied",
    "QOSMinGRES",
    "AssocMaxNodePerJobLimit",
]
HELD = [
    "JobHeldUser",
    "JobHeldAdmin",
    "job requeued in held state",
    "job_requeued_in_held_state",
    "launch failed requeued held",
]
LATER = [
    "ReqNodeNotAvail",
    "Reservation",
    "PartitionDown",
    "Licenses",
    "AssocGrpCpuLimit",
    "AssocGrpCPUMinutesLimit",
    "QOSGrpGRES",
    "QOSUsageThreshold",
]


def waits(reason: str, **more: object) -> Told:
    return told(queue(10, row(State.PENDING, reason=reason, **more)))


def alerted(found: Told, *, at: float) -> list[str]:
    return [alert.reason for _, alert in found.alerts(at) if alert.kind == "waits"]


@pytest.mark.parametrize("reason", COMES_AND_GOES)
def test_a_reason_that_passes_or_is_unknown_is_no_alert(reason: str) -> None:
    assert ([], None) == (alerted(waits(reason), at=10**6), action_for(reason, "123"))


@pytest.mark.parametrize(
    ("reason", "after_s"),
    [
        *((r, 300) for r in NEVER),
        *((r, 600) for r in HELD),
        *((r, 1800) for r in LATER[:4]),
        *((r, 3600) for r in LATER[4:]),
    ],
)
def test_a_reason_that_needs_a_person_is_reported_once_after_a_while(reason: str, after_s: float) -> None:
    found = waits(reason)
    assert ([], [reason], []) == tuple(alerted(found, at=10 + s) for s in (after_s - 60, after_s, after_s + 60))
    action = action_for(reason, "123")
    assert action is not None
    assert "{" not in action


def test_a_further_reason_of_a_job_is_reported_and_the_first_not_again() -> None:
    found = waits("JobHeldUser")
    assert ["JobHeldUser"] == alerted(found, at=700)
    found.take(queue(800, row(State.PENDING, reason="PartitionTimeLimit")))
    assert ([], ["PartitionTimeLimit"]) == (alerted(found, at=900), alerted(found, at=1200))
    found.take(queue(1300, row(State.PENDING, reason="JobHeldUser")))
    assert [] == alerted(found, at=9000)


def test_a_reason_that_cleared_in_time_is_not_reported() -> None:
    found = waits("JobHeldUser")
    found.take(queue(500, row(State.PENDING)), queue(560, row(State.PENDING, reason="JobHeldUser")))
    assert ([], ["JobHeldUser"]) == (alerted(found, at=700), alerted(found, at=1200))


def test_a_reason_that_names_other_nodes_is_the_same_reason() -> None:
    found = waits("ReqNodeNotAvail, UnavailableNodes:n1")
    found.take(queue(1700, row(State.PENDING, reason="ReqNodeNotAvail, UnavailableNodes:n[1-2]")))
    assert (["ReqNodeNotAvail, UnavailableNodes:n[1-2]"], []) == (alerted(found, at=1900), alerted(found, at=9000))


@pytest.mark.parametrize("word", ["REQUEUE_HOLD", "SPECIAL_EXIT"])
def test_a_job_held_after_a_requeue_is_reported(word: str) -> None:
    held = row(State.REQUEUED, state_word=word, reason="job requeued in held state")
    assert ["job requeued in held state"] == alerted(told(queue(10, held)), at=700)


def test_an_alert_is_cleared_with_its_reason_and_opened_again_with_it() -> None:
    found = waits("JobHeldUser")
    alerted(found, at=700)
    [alert] = only_job(found).alerts
    tracker = Tracker(found.state)
    for at, reason, cleared_at in (
        (800, "JobHeldUser", None),
        (860, "Priority", T + 860),
        (920, "Priority", T + 860),
        (980, "JobHeldUser", None),
    ):
        tracker.apply(Facts(queue=QueueAnswer(T + at, [row(State.PENDING, reason=reason)])))
        tracker.events(lost_after_s=1800.0)
        tracker.raise_alerts(now=T + at, poll_interval_s=60.0)
        assert alert.cleared_at == cleared_at, at
    tracker.apply(Facts(queue=QueueAnswer(T + 1040, [row(State.RUNNING, start=1000)])))
    tracker.events(lost_after_s=1800.0)
    tracker.raise_alerts(now=T + 1040, poll_interval_s=60.0)
    assert (T + 1040, [alert]) == (alert.cleared_at, only_job(found).alerts)


def only_job(found: Told) -> Job:
    [ev] = found.state.evals.values()
    return ev.jobs[-1]


def test_only_jobs_that_squeue_shows_pending_are_reported() -> None:
    found = waits("JobHeldUser")
    found.take(queue(60))
    assert [] == alerted(found, at=9000)


def test_each_task_of_an_array_is_reported() -> None:
    tasks = [registered(f"r/a[{n}]", f"9_{n}") for n in range(3)]
    found = Told(Facts(registrations=tasks))
    found.take(queue(10, *(row(State.PENDING, job_id=f"9_{n}", reason="BadConstraints") for n in range(3))))
    assert (["BadConstraints"] * 3, []) == (alerted(found, at=400), alerted(found, at=500))


# The sidecar's own job.


@pytest.mark.survives("F19")
@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        *((r, True) for r in ("QOSMaxJobsPerUserLimit", "AssocMaxJobsLimit", "AssocGrpJobsLimit", "MaxJobsPerAccount")),
        *((r, True) for r in ("QOSMaxCpuPerUserLimit", "QOSMaxNodePerUserLimit", "QOSMaxMemoryPerUser")),
        *((r, False) for r in ("Resources", "Priority", "QOSMaxGRESPerUser", "QOSMaxCpuPerJobLimit", "JobHeldUser")),
    ],
)
def test_evals_that_wait_for_a_limit_that_the_sidecar_uses_up_are_starved(reason: str, expected: bool) -> None:
    assert (reason if expected else None) == starved_by(waits(reason).state)


@pytest.mark.survives("F19")
def test_no_eval_is_starved_while_another_runs() -> None:
    found = Told(Facts(registrations=[registered(), registered("r/other", "200")]))
    limit = row(State.PENDING, reason="QOSMaxJobsPerUserLimit")
    found.take(queue(10, limit, row(State.RUNNING, job_id="200", start=5)))
    assert starved_by(found.state) is None
    found.take(queue(70, limit, row(State.COMPLETED, job_id="200", start=5, end=60)))
    assert "QOSMaxJobsPerUserLimit" == starved_by(found.state)
    assert State.PENDING is found.state.evals[NAME].state
