"""Tests the search for bad nodes: Fisher's and Holm's tests against known values, and simulated experiments."""

from __future__ import annotations

import random
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from evalmon_agent.evidence.diagnosis.causes import CAUSES, LiesIn
from evalmon_agent.summary.failures import by_node, holm, p_value
from evalmon_agent.summary.records import AttemptSummary, EvalSummary
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # Fisher's tea tasting, and other values by R's fisher.test(alternative = "greater").
        ((3, 4, 4, 8), 17 / 70),
        ((4, 4, 4, 8), 1 / 70),
        ((1, 10, 12, 24), 1 - 66 / 1_961_256),
        ((9, 10, 12, 24), 0.001_379_728_092_280_1),
        ((0, 10, 0, 60), 1.0),
        ((3, 3, 3, 63), 1 / 39_711),
    ],
)
def test_the_p_value_matches_fishers_test(table: tuple[int, int, int, int], expected: float) -> None:
    assert fisher(*table) == pytest.approx(expected, rel=1e-9)


def fisher(failures: int, ran: int, failures_in_all: int, ran_in_all: int) -> float:
    return p_value(failures=failures, ran=ran, failures_in_all=failures_in_all, ran_in_all=ran_in_all)


@given(st.data())
def test_the_p_value_matches_counting_all_combinations(data: st.DataObject) -> None:
    ran_in_all = data.draw(st.integers(1, 60))
    failures_in_all, ran = data.draw(st.integers(0, ran_in_all)), data.draw(st.integers(0, ran_in_all))
    most = min(ran, failures_in_all)
    failures = data.draw(st.integers(max(0, failures_in_all + ran - ran_in_all), most))
    ways = sum(
        comb(failures_in_all, x) * comb(ran_in_all - failures_in_all, ran - x) for x in range(failures, most + 1)
    )
    expected = Fraction(ways, comb(ran_in_all, ran))
    assert fisher(failures, ran, failures_in_all, ran_in_all) == pytest.approx(float(expected), rel=1e-9)


def test_thousands_of_evals_are_handled() -> None:
    assert fisher(2600, 5000, 5000, 10_000) == pytest.approx(3.4e-5, rel=0.1)


def test_holms_test_stops_at_the_first_insignificant_value() -> None:
    assert {"a"} == holm({"a": 0.002, "b": 0.0034, "c": 0.0035}, tests=4)
    assert set() == holm({"a": 0.003}, tests=4)
    assert {"a"} == holm({"a": 0.0025}, tests=4)
    assert {"a", "b", "c", "d"} == holm({"a": 0.0025, "b": 0.0033, "c": 0.005, "d": 0.01}, tests=4)


def ran(name: str, *attempts: tuple[str, str | None]) -> EvalSummary:
    """An eval whose attempts ran on these nodes and failed with these causes."""
    shown = [
        AttemptSummary(
            job_id=JobId("1"),
            state=State.FAILED if cause else State.COMPLETED,
            verdict="failed" if cause else "ok",
            submitted=None,
            started=None,
            ended=None,
            elapsed_s=1.0,
            exit_code=None,
            signal=None,
            node_list=nodes,
            cause=cause,
        )
        for nodes, cause in attempts
    ]
    return EvalSummary(
        name=name, job_id=JobId("1"), attempts=shown, state=State.FAILED, verdict="failed" if attempts[-1][1] else "ok"
    )


def experiment(*, bad: str | None = "n3", cause: str = "cuda-error", nodes: int = 4) -> list[EvalSummary]:
    """3 runs of 3 tasks and 4 epochs, distributed over the nodes in turn."""
    names = [f"r{run}/t{task}/epoch{epoch}" for run in range(3) for task in range(3) for epoch in range(4)]
    placed = [(name, f"n{(number * 5) % nodes}") for number, name in enumerate(names)]
    return [ran(name, (node, cause if node == bad else None)) for name, node in placed]


def suspicious(evals: list[EvalSummary]) -> list[str]:
    return [node.node for node in by_node(evals) if node.suspicious]


def test_dropped_evals_make_no_node_suspicious() -> None:
    evals = experiment()
    is_bad = [any(attempt.cause for attempt in ev.attempts) for ev in evals]
    evals = [replace(ev, verdict="dropped" if bad else ev.verdict) for ev, bad in zip(evals, is_bad, strict=True)]
    assert [] == suspicious(evals)
    assert not any(node.failed for node in by_node(evals))


def test_only_the_bad_node_is_suspicious_and_it_comes_first() -> None:
    found = by_node(experiment())
    assert [("n3", 9, 9, ["cuda-error"], True), ("n0", 9, 0, [], False)] == [
        (node.node, node.ran, node.failed, node.causes, node.suspicious) for node in found[:2]
    ]
    assert ["n3"] == suspicious(experiment())
    assert [] == suspicious(experiment(bad=None))


def test_a_cause_in_the_eval_does_not_count_against_the_node() -> None:
    for cause in CAUSES:
        expected = ["n3"] if CAUSES[cause].lies_in is LiesIn.ANYWHERE else []
        assert expected == suspicious(experiment(cause=cause)), cause
    [found] = [node for node in by_node(experiment(cause="hub-gated")) if node.node == "n3"]
    assert (9, 9, ["hub-gated"]) == (found.ran, found.failed, found.causes)


def test_an_unknown_cause_of_another_version_counts_against_the_node() -> None:
    assert ["n3"] == suspicious(experiment(cause="a-newer-one"))


def test_two_failures_or_a_single_task_are_not_enough() -> None:
    many = [ran(f"r/ok{n}/epoch0", ("n1", None)) for n in range(500)]
    assert [] == suspicious([*many, *(ran(f"r/bad{n}/epoch0", ("n2", "killed")) for n in range(2))])
    assert [] == suspicious([*many, *(ran(f"r/bad/epoch{n}", ("n2", "killed")) for n in range(9))])
    least = [ran(f"r/bad{n // 2}/epoch{n}", ("n2", "killed")) for n in range(3)]
    assert ["n2"] == suspicious([*many, *least])


def test_a_run_or_task_that_fails_everywhere_does_not_count_against_its_nodes() -> None:
    for layout in ("{broken}/t{n}/epoch0", "r{n}/{broken}/epoch0"):
        well = [ran(layout.format(broken=f"x{o}", n=n), (f"n{o}", None)) for o in range(4) for n in range(10)]
        broken = [ran(layout.format(broken="bad", n=n), ("n9", "missing-file")) for n in range(10)]
        assert [] == suspicious(well + broken)


def test_repeated_failures_of_an_eval_on_one_node_count_once() -> None:
    well = [ran(f"r/t{n}/epoch0", ("n1", None)) for n in range(40)]
    again = [ran(f"r/x{n}/epoch0", *[("n2", "killed")] * 5) for n in range(2)]
    assert [] == suspicious(well + again)
    assert (2, 2) == next((node.ran, node.failed) for node in by_node(well + again) if node.node == "n2")


def test_a_successful_retry_elsewhere_does_not_undo_the_failure() -> None:
    evals = [ran(f"r/t{n}/epoch0", ("n2", "bus-error"), ("n1", None)) for n in range(12)]
    assert ["n2"] == suspicious(evals)


def test_an_eval_on_several_nodes_counts_on_each() -> None:
    found = by_node([ran("r/t/epoch0", ("n[1-2]", "nccl"))])
    assert [("n1", 1, 1), ("n2", 1, 1)] == [(node.node, node.ran, node.failed) for node in found]


def test_active_and_unmeasured_evals_do_not_count() -> None:
    evals = [ran("r/t/epoch0", ("n1", None))]
    attempt = evals[0].attempts[0]
    for state in (State.RUNNING, State.FAILED, None):
        evals[0].attempts[0] = AttemptSummary(
            **{name: getattr(attempt, name) for name in attempt.__struct_fields__} | {"state": state}
        )
        assert [] == by_node(evals)


NODE_CAUSES = [cause for cause in CAUSES if CAUSES[cause].lies_in is LiesIn.ANYWHERE]
EVAL_CAUSES = [cause for cause in CAUSES if CAUSES[cause].lies_in is not LiesIn.ANYWHERE]


def healthy(chance: random.Random) -> list[EvalSummary]:
    """An experiment in which no node causes failures: some are by chance, some by a broken run, task or script.

    Slurm distributes the evals at random, or fills one node after the other in the order of submission.
    """
    runs, tasks, epochs = (chance.randint(low, high) for low, high in ((1, 8), (1, 8), (1, 6)))
    nodes, rate = chance.randint(2, 20), chance.choice([0.0, 0.02, 0.1, 0.3, 0.7])
    broken_run, broken_task = f"r{chance.randrange(16)}", f"t{chance.randrange(16)}"
    cells = [(f"r{r}", f"t{t}", f"epoch{e}") for r in range(runs) for t in range(tasks) for e in range(epochs)]
    chance.shuffle(cells) if chance.random() < 0.3 else None
    is_packed = chance.random() < 0.5
    evals = []
    for number, (run, task, epoch) in enumerate(cells):
        node = number * nodes // len(cells) if is_packed else chance.randrange(nodes)
        cause = None
        if run == broken_run or task == broken_task:
            cause = chance.choice(["missing-file", "python-error", "unknown"])
        elif chance.random() < rate:
            cause = chance.choice(NODE_CAUSES)
        elif chance.random() < rate:
            cause = chance.choice(EVAL_CAUSES)
        evals.append(ran(f"{run}/{task}/{epoch}", (f"n{node}", cause)))
    return evals


def test_at_most_1_in_100_healthy_experiments_has_a_suspicious_node() -> None:
    chance = random.Random(13)
    alarms = sum(bool(suspicious(healthy(chance))) for _ in range(1000))
    assert alarms <= 10


def test_a_bad_node_is_found_although_others_have_failures() -> None:
    chance = random.Random(7)
    found = 0
    for _ in range(200):
        names = [ev.name for ev in experiment(bad=None)]
        nodes = [f"n{number % 6}" for number in range(len(names))]
        chance.shuffle(nodes)
        fails = [node == "n0" or chance.random() < 0.05 for node in nodes]
        evals = [ran(n, (node, "killed" if bad else None)) for n, node, bad in zip(names, nodes, fails, strict=True)]
        found += suspicious(evals) == ["n0"]
    assert found >= 190
