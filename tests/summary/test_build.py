"""Tests summary.json: the contract's shape, null for unknown, and each figure from the best source."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from evalmon_agent.evidence.diagnosis.causes import Diagnosis
from evalmon_agent.figures import Figures
from evalmon_agent.summary.build import total_time_s
from evalmon_agent.summary.markdown import render
from evalmon_agent.summary.records import NO_COST
from evalmon_agent.tracking.records import ExperimentState, Refusal
from evalmon_agent.tracking.tracker import Facts
from evalmon_agent.words.states import State
from summary.summarised import LOG, finished, left, measured, mixed, only, summary_of
from tracking.rows import Told, account, accounts, launcher, queue, registered, report, reported, row, told

GOLDEN = Path(__file__).parent / "golden" / "summary.json"

# Section 8 of the contract, copied.
SHAPE = """
schema experiment generated_at complete total_time_s counts{STATE: n} verdicts{ok,failed,suspect,unverified,active,refused,dropped: n} cost{gpu_hours, gpu_hours_of_failures,
cpu_hours, energy_j, money}  causes[] nodes[] alerts[] evals[]; per eval
name job_id attempts[] state verdict exit_code signal submitted started ended queue_s elapsed_s
time_limit_s time_efficiency_pct cpu_efficiency_pct memory_used_bytes memory_requested_bytes
memory_efficiency_pct metrics_source(seff|sacct|self|null)
gpu{count samples utilization_mean_pct utilization_p95_pct utilization_max_pct idle_fraction
memory_peak_bytes memory_total_bytes power_mean_w energy_j}|null
result|null results[] result_unknown
diagnosis{cause evidence advice}|null advice[] witnesses{slurm, self, agree} nodes[] output_dir log
"""  # noqa: E501 - as it stands there


RESULT_SHAPE = """
kind task model model_args status samples_completed samples_total samples_limited
samples_failed sample_errors scores error created log known_by
"""


pytestmark = pytest.mark.usefixtures("in_berlin")


def keys(text: str) -> dict[str, list[str]]:
    """The keys of each level of the contract's shape: of "" (an eval, or the whole) and of each `name{...}`."""
    inner = {name: re.findall(r"[a-z_0-9]+", body) for name, body in re.findall(r"([a-z]+)\{([^{}]*)\}", text)}
    bare = re.sub(r"\{[^{}]*\}|\[\]|\([^)]*\)|\|null", "", re.sub(r"\{[^{}]*\}", "", text))
    return {**inner, "": bare.split()}


def plain(value: object) -> dict[str, object]:
    decoded: dict[str, object] = json.loads(msgspec.json.encode(value))
    return decoded


def test_the_shape_is_the_contracts_key_by_key() -> None:
    whole, per_eval = SHAPE.split("; per eval")
    shown = plain(summary_of(finished()))
    assert keys(whole)[""] == list(shown)
    verdicts = ["ok", "failed", "suspect", "unverified", "active", "refused", "dropped"]
    assert verdicts == list(shown["verdicts"])  # type: ignore[call-overload]
    [ev] = shown["evals"]  # type: ignore[misc]
    expected = keys(per_eval)
    assert [*expected[""], "cost", "foreign", "refusal"] == list(ev)
    cost = keys(whole)["cost"]
    assert cost == list(shown["cost"])[: len(cost)]  # type: ignore[call-overload]
    assert expected["gpu"] == list(ev["gpu"])[: len(expected["gpu"])]
    assert expected["witnesses"] == list(ev["witnesses"])
    assert RESULT_SHAPE.split() == list(ev["result"])
    assert [ev["result"]] == ev["results"]
    assert expected["diagnosis"] == list(Diagnosis.__struct_fields__)


def test_the_summary_of_a_finished_experiment() -> None:
    document = msgspec.json.format(msgspec.json.encode(summary_of(finished())), indent=1).decode() + "\n"
    assert GOLDEN.read_text() == document


def test_every_field_of_an_unobserved_eval_is_null() -> None:
    ev = plain(only(told()))
    known = {
        "name": "r8_lr1e-5/capitalization/epoch0",
        "job_id": "123",
        "attempts": [],
        "state": "PENDING",
        "verdict": "active",
        "submitted": "2026-09-21T16:13:20+02:00",
        "advice": [],
        "results": [],
        "witnesses": {"slurm": None, "self": None, "agree": None},
        "foreign": [],
        "output_dir": "/exp/out",
        "nodes": [],
        "cost": dict.fromkeys(NO_COST.__struct_fields__) | {"gpu_hours": 0.0, "cpu_hours": 0.0, "energy_j": 0.0},
    }
    assert dict.fromkeys(ev) | known == ev


def test_an_empty_experiment_has_a_summary() -> None:
    shown = summary_of(Told())
    assert ({}, {0}, []) == (shown.counts, set(shown.verdicts.values()), shown.evals)
    assert (False, None) == (shown.complete, shown.total_time_s)


def test_counts_and_verdicts_are_those_of_the_evals() -> None:
    shown = summary_of(mixed())
    assert {"RUNNING": 1, "COMPLETED": 3, "FAILED": 1, "TIMEOUT": 1, "OUT_OF_MEMORY": 1} == shown.counts
    verdicts = {verdict: count for verdict, count in shown.verdicts.items() if count}
    assert {"ok": 2, "failed": 2, "suspect": 1, "unverified": 1, "active": 1} == verdicts
    assert ["ok", "failed", "suspect", "unverified", "failed", "active", "ok"] == [ev.verdict for ev in shown.evals]


def test_times_have_the_utc_offset_of_their_date() -> None:
    winter = told(queue(10, row(State.PENDING)), accounts(1, account(State.FAILED, start=5, end=55)))
    assert "2026-09-21T16:14:15+02:00" == only(winter).ended
    later = only(told(report(reported(start=10_000_000.0, end=10_000_010, exit_code=0))))
    assert "2027-01-15T08:00:00+01:00"[-6:] == str(later.started)[-6:]


@pytest.mark.parametrize(
    ("end", "said", "expected"),
    [
        ({"exit_code": 3, "signal": None}, {"exit_code": 3}, (3, None)),
        ({"exit_code": 9, "signal": None}, {"exit_code": 137}, (137, None)),
        ({"exit_code": 0, "signal": 9}, {"exit_code": 137}, (137, None)),
        ({"exit_code": 0, "signal": 15}, {"signal": 15}, (None, 15)),
        ({"exit_code": 2, "signal": None}, {}, (2, None)),
        ({"exit_code": 0, "signal": 9}, {}, (None, 9)),
    ],
)
def test_the_jobs_own_report_decides_how_its_command_ended(
    end: dict[str, int | None], said: dict[str, int], expected: tuple[int | None, int | None]
) -> None:
    facts = report(reported(start=6, end=50, **said)) if said else Facts()
    found = only(told(facts, accounts(60, account(State.FAILED, start=5, end=55, **end))))
    assert expected == (found.exit_code, found.signal)


def test_a_cancelled_job_that_never_ran_has_no_exit_no_start_and_no_metrics() -> None:
    found = only(told(queue(60, row(State.CANCELLED, end=55))))
    assert (None, None, None, None, None) == (found.exit_code, found.signal, found.started, found.queue_s, found.gpu)
    assert (0.0, None, "failed") == (found.elapsed_s, found.metrics_source, found.verdict)


def test_the_time_in_the_queue_is_slurms_and_never_negative() -> None:
    assert 4.0 == only(told(queue(10, row(State.RUNNING, start=5)))).queue_s
    assert 0.0 == only(told(queue(10, row(State.RUNNING, submit=7, start=5)))).queue_s
    assert None is only(told(report(reported(start=-500)))).queue_s


def test_the_elapsed_time_of_a_running_job_increases() -> None:
    running = told(queue(10, row(State.RUNNING, start=5)))
    assert [55.0, 95.0] == [only(running, now=now).elapsed_s for now in (60, 100)]
    assert 0.0 == only(running, now=-3600).elapsed_s
    assert None is only(told(queue(10, row(State.PENDING)))).elapsed_s


def test_the_report_fills_in_where_slurm_has_no_data() -> None:
    found = only(told(report(reported(start=6, end=50, exit_code=0)), queue(60), accounts(60, disabled=True)))
    assert ("COMPLETED", 44.0, 0) == (found.state, found.elapsed_s, found.exit_code)
    assert (None, "exit 0") == (found.witnesses.slurm, found.witnesses.self)
    assert [("COMPLETED", 44.0)] == [(str(a.state), a.elapsed_s) for a in found.attempts]


def test_captured_figures_take_precedence() -> None:
    found = told(queue(60, row(State.COMPLETED, start=5, end=55)))
    found.take(measured(Figures(52.0, 600.0, 8.67, 99.0, 1, 2, 50.0, "sacct")))
    one = only(found)
    assert (52.0, 600.0, 8.67, 99.0) == (
        one.elapsed_s,
        one.time_limit_s,
        one.time_efficiency_pct,
        one.cpu_efficiency_pct,
    )
    assert (1, 2, 50.0, "sacct") == (
        one.memory_used_bytes,
        one.memory_requested_bytes,
        one.memory_efficiency_pct,
        one.metrics_source,
    )


def test_each_attempt_is_listed_with_its_own_end() -> None:
    first, second = account(State.REQUEUED, start=5, end=55), account(State.FAILED, submit=57, start=180, end=190)
    facts = report(reported(0, start=6, end=54, signal=15), reported(1, start=181, end=189, exit_code=3))
    found = only(told(facts, queue(200), accounts(200, first, second)))
    assert [("REQUEUED", 15, 50.0), ("FAILED", None, 10.0)] == [
        (str(a.state), a.signal, a.elapsed_s) for a in found.attempts
    ]
    assert (3, 123.0, "2026-09-21T16:14:17+02:00") == (found.exit_code, found.queue_s, found.submitted)


def test_a_retried_eval_shows_all_its_jobs_and_counts_the_latest() -> None:
    found = told(accounts(60, account(State.FAILED, start=5, end=55)))
    found.take(Facts(registrations=[registered(job_id="200", at=100, token="9c")]))
    assert ("200", "PENDING", None, 1) == (
        (one := only(found)).job_id,
        one.state,
        one.exit_code,
        len(one.attempts),
    )
    found.take(queue(300, row(State.COMPLETED, job_id="200", submit=101, start=110, end=150, command=launcher("9c"))))
    one = only(found)
    assert (["123", "200"], "unverified", 40.0) == ([a.job_id for a in one.attempts], one.verdict, one.elapsed_s)


def test_what_slurm_reported_before_the_end_is_not_its_final_state() -> None:
    found = told(queue(10, row(State.RUNNING, start=5)), accounts(10, account(State.RUNNING, start=5)))
    found.take(queue(60, row(State.TIMEOUT, start=5, end=55)))
    assert "TIMEOUT" == only(found).witnesses.slurm


def test_impossible_times_in_a_report_are_ignored() -> None:
    found = only(told(report(reported(start=1e300, end=-1e300, exit_code=0))))
    assert (None, None) == (found.started, found.ended)


@pytest.mark.parametrize(("end", "word"), [(State.TIMEOUT, "time limit"), (State.OUT_OF_MEMORY, "--mem")])
def test_exceeded_limits_come_with_advice(end: State, word: str) -> None:
    [advice] = only(told(queue(60, row(end, start=5, end=55)))).advice
    assert word in advice


def test_the_total_time_is_from_the_first_submission_to_the_last_end() -> None:
    evals = Facts(registrations=[registered(), registered("r/b", "200", at=100, token="9c")])
    found = Told(evals, accounts(60, account(State.FAILED, start=5, end=55)))
    late = account(State.FAILED, job_id="200", submit=101, start=110, end=961)
    found.take(accounts(1000, late, asked=("200",)))
    assert 960.0 == total_time_s(found.state)


def test_an_unknown_total_time_is_null_and_never_negative() -> None:
    assert None is total_time_s(ExperimentState(experiment="/exp"))
    assert None is total_time_s(told(queue(10, row(State.RUNNING, start=5))).state)
    assert 0.0 == total_time_s(told(accounts(60, account(State.FAILED, start=5, end=-20))).state)


def test_an_unrecognised_error_in_a_log_makes_the_eval_suspect() -> None:
    found = told(queue(60, row(State.COMPLETED, start=5, end=55)))
    found.take(measured(evidence=left(msgspec.structs.replace(LOG, status="error"))))
    assert "suspect" == only(found).verdict


REFUSAL = Refusal(10.0, "sbatch: error: Invalid partition\nsbatch: error: ask your PI", "/exp/b.slurm")


def test_a_refused_submission_is_an_eval_that_needs_attention() -> None:
    found = finished()
    found.state.refused = {"r/b": REFUSAL}
    ev = summary_of(found).evals[-1]
    assert ("r/b", None, "refused", REFUSAL.error) == (ev.name, ev.job_id, ev.verdict, ev.refusal)
    assert ev.diagnosis is not None
    assert "sbatch: error: Invalid partition ⏎ sbatch: error: ask your PI" == ev.diagnosis.evidence
    assert (1, {"COMPLETED": 1, "UNSUBMITTED": 1}) == (summary_of(found).verdicts["refused"], summary_of(found).counts)
    assert "* **r/b was refused by Slurm**: sbatch: error: Invalid" in render(summary_of(found))


def test_a_refused_retry_keeps_the_verdict_and_is_shown_beside_it() -> None:
    found = told(queue(60, row(State.FAILED, start=5, end=55)))
    name = only(found).name
    found.state.refused = {name: REFUSAL}
    ev = only(found)
    assert ("failed", REFUSAL.error, 1) == (ev.verdict, ev.refusal, len(ev.attempts))
    assert "Slurm refused to run it again: sbatch: error: Invalid partition ⏎" in render(summary_of(found))


def test_a_dropped_eval_stays_in_the_summary_and_is_not_counted() -> None:
    found = told(queue(60, row(State.FAILED, start=5, end=55)))
    name = only(found).name
    found.state.dropped, found.state.refused = {name: 70.0, "r/b": 70.0}, {"r/b": REFUSAL}
    summary = summary_of(found)
    assert [("dropped", "FAILED"), ("dropped", "UNSUBMITTED")] == [(ev.verdict, ev.state) for ev in summary.evals]
    assert ({}, 2, 0) == (summary.counts, summary.verdicts["dropped"], summary.verdicts["failed"])
