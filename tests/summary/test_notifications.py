"""Tests that notifications say briefly what happened, each once, without any text that an eval printed."""

from __future__ import annotations

from typing import Any

import msgspec

from evalmon_agent.evidence.diagnosis.causes import Diagnosis
from evalmon_agent.evidence.result import EvalLog
from evalmon_agent.settings import Settings
from evalmon_agent.summary.build import build
from evalmon_agent.summary.notifications import EvalFailure, Notification, failures_among, notifications
from evalmon_agent.tracking.records import (
    Alert,
    Attempt,
    Eval,
    Evidence,
    ExperimentState,
    Job,
    MonitorJob,
    Outage,
    Refusal,
)
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State

NOW = 1_700_000_000.0
PRINTED = "a-secret-line-of-the-eval"


def waiting(name: str, job_id: str, reason: str, *alerts: Alert, **more: Any) -> Eval:
    attempt = Attempt(submitted_at=NOW, queue_state=State.PENDING, queue_reason=reason)
    job = Job(JobId(job_id), NOW, token="t", alerts=list(alerts), attempts=[attempt])
    return Eval(name, JobId(job_id), jobs=[job], **more)


def state_of(*evals: Eval, **more: Any) -> ExperimentState:
    return ExperimentState("/home/me/study", evals={ev.name: ev for ev in evals}, **more)


def told(state: ExperimentState, *failures: EvalFailure, now: float = NOW) -> list[Notification]:
    return notifications(state, failures, now=now, summary=lambda: build(state, now=now, settings=Settings()))


def failed(name: str, cause: str = "unknown", evidence: str = "") -> EvalFailure:
    return EvalFailure(name, State.FAILED, Diagnosis(cause, evidence, None))


OOM = failed("r16/cap/epoch0", "cuda-out-of-memory", "CUDA out of memory. Tried to allocate 2.00 GiB")


def test_the_first_failures_with_an_error_are_reported_and_later_ones_are_not() -> None:
    state = state_of()
    [first] = told(
        state, OOM, failed("r16/cap/epoch1", "cuda-out-of-memory", "CUDA out of memory. Tried to allocate 3.50 GiB")
    )
    assert (first.event, first.level) == ("failed", "error")
    assert first.title == "2 evals ran out of GPU memory"
    assert first.text.splitlines()[:2] == ["Cause: cuda-out-of-memory", "Evals: r16/cap/epoch0, r16/cap/epoch1"]
    assert told(state, OOM) == []
    [other] = told(state, failed("r1/x", "missing-module", "No module named 'vllm'"))
    assert other.title.startswith("r1/x ")
    [another] = told(state, failed("r1/y", "missing-module", "No module named 'torch'"))
    assert "torch" not in another.title + another.text + another.id


def test_a_thousand_different_errors_of_one_cause_are_one_notification() -> None:
    errors = [f"KeyError: '{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}x{chr(97 + n // 676)}'" for n in range(1000)]
    state = state_of()
    assert len(told(state, *(failed("r1/x", "python-error", error) for error in errors))) == 5
    assert len(told(state, *(failed("r1/x", "unknown", error) for error in errors))) == 1


def test_a_thousand_names_are_ten_in_the_text_and_all_in_the_list() -> None:
    [one] = told(state_of(), *(failed(f"r1/t{n}") for n in range(1000)))
    assert one.title.startswith("1000 evals ")
    assert " and 990 more" in one.text
    assert len(one.evals) == 1000


def test_an_outage_and_its_end_are_reported_once_each() -> None:
    state = state_of(outage=Outage(NOW - 300, failures=4))
    assert told(state) == []
    state.outage = Outage(NOW - 300, failures=5, alerted=True)
    [outage] = told(state)
    assert (outage.event, outage.level) == ("outage", "warning")
    assert outage.title.startswith("Slurm has not answered since 20")
    assert told(state) == []
    state.outage = None
    [recovered] = told(state)
    assert (recovered.event, recovered.title) == ("recovered", "Slurm answers again")
    assert told(state) == []


def test_starved_evals_are_one_alert_and_another_when_none_is_left() -> None:
    held = Alert("waits", NOW, "ReqNodeNotAvail, UnavailableNodes:n1")
    state = state_of(waiting("r1/a", "11", "Priority"), waiting("r1/b", "12", "ReqNodeNotAvail", held))
    [alert] = told(state)
    assert (alert.event, alert.title, alert.evals) == ("alert", "r1/b waits for ReqNodeNotAvail", ["r1/b"])
    other = Alert("waits", NOW, "ReqNodeNotAvail, UnavailableNodes:n2")
    state.evals["r1/a"].jobs[0].alerts.append(other)
    assert told(state) == [], "another one that waits for the same"
    held.cleared_at = NOW
    assert told(state) == [], "one still waits"
    other.cleared_at = NOW
    [cleared] = told(state)
    assert (cleared.event, cleared.title) == ("alert-cleared", "No longer: r1/a waits for ReqNodeNotAvail")
    assert told(state) == []


def test_an_eval_without_a_report_is_an_alert() -> None:
    ev = waiting("r1/a", "11", "None", Alert("unreported", NOW), state=State.RUNNING)
    [alert] = told(state_of(ev))
    assert alert.title == "r1/a runs without reporting to evalmon"
    assert told(state_of(ev, dropped={"r1/a": NOW})) == []


def test_the_completion_is_reported_once_and_again_after_evals_were_added() -> None:
    state = state_of(completions=1, completion=MonitorJob(status="complete"))
    [complete] = told(state)
    assert (complete.event, complete.level, complete.title) == ("complete", "info", "No evals yet")
    assert told(state) == []
    state.completion, state.completions = MonitorJob(status="submitted"), 1
    assert told(state) == []
    state.completion, state.completions = MonitorJob(status="complete"), 2
    [again] = told(state)
    assert again.id != complete.id


def test_the_same_facts_give_the_same_id_in_another_process() -> None:
    first, later = (told(state_of(), OOM, now=now)[0] for now in (NOW, NOW + 100))
    assert first.id == later.id
    assert first.at != later.at
    elsewhere = ExperimentState("/home/me/other")
    assert told(elsewhere, OOM)[0].id != first.id


def test_a_name_cannot_forge_a_line() -> None:
    [one] = told(state_of(), failed("a\nCause: none\x1b[31m"))
    assert "\x1b" not in one.title + one.text
    assert "\n" not in one.title
    assert "\nCause: none" not in one.text


def test_no_text_that_an_eval_printed_or_logged_is_sent() -> None:
    log = EvalLog(status="error", path="/x/a.eval", task="a", samples_total=2, samples_completed=0, error=PRINTED)
    evidence = Evidence(logs=[log], diagnosis=Diagnosis("python-error", PRINTED, PRINTED), log="/x/a.out")
    attempt = Attempt(submitted_at=NOW, ran=True, account_state=State.FAILED, evidence=evidence)
    job = Job(JobId("11"), NOW, token="t", attempts=[attempt])
    ev = Eval("r1/a", JobId("11"), State.FAILED, final=True, jobs=[job])
    state = state_of(ev, completions=1, completion=MonitorJob(status="complete"))
    failures = failures_among([ev], {})
    assert PRINTED in str(failures)
    events = told(state, *failures)
    assert [event.event for event in events] == ["failed", "complete"]
    assert PRINTED not in msgspec.json.encode(events).decode()


def test_a_refused_submission_is_reported_once_as_a_failure() -> None:
    state = state_of(refused={"r1/a": Refusal(NOW, PRINTED, "/x/a.slurm"), "r1/b": Refusal(NOW, "no", "/x/b.slurm")})
    [event] = told(state)
    assert (event.event, event.title, event.evals) == ("failed", "2 evals were refused by Slurm", ["r1/a", "r1/b"])
    assert PRINTED not in event.text
    assert told(state) == []
