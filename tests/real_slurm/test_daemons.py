"""Tests outages of slurmctld and slurmdbd while evals run: nothing is invented, and everything is logged later."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from real_slurm.cluster import HEADER, Exp, wait_for

pytestmark = [pytest.mark.slurm, pytest.mark.survives("F15")]

EXPECTED = {
    "r1/quick/epoch0": [("PENDING", "RUNNING"), ("RUNNING", "FAILED")],
    "r1/long/epoch0": [("PENDING", "RUNNING"), ("RUNNING", "COMPLETED")],
}


def started(exp: Exp, **settings: object) -> None:
    """One eval that ends while Slurm is down, and one that ends afterwards."""
    exp.settings(**settings)
    exp.script("r1", "quick_epoch0", "touch started; until [ -e go ]; do sleep 0.2; done; exit 3\n")
    exp.script("r1", "long_epoch0", "until [ -e go ]; do sleep 0.2; done\n", header=HEADER)
    assert exp.submit().returncode == 0
    wait_for(lambda: exp.blocks("MONITOR_STARTED") and all(exp.transitions(name) for name in EXPECTED), 60, exp.log)


def go(exp: Exp, name: str) -> None:
    (exp.root / f"r1/eval/{name}_epoch0/go").touch()


def check(exp: Exp) -> None:
    exp.wait_complete(timeout=120)
    assert {name: exp.transitions(name) for name in EXPECTED} == EXPECTED
    assert Counter(exp.summary()["verdicts"]) == Counter({"ok": 1, "failed": 1})
    assert len(exp.blocks("ALL_COMPLETE")) == 1
    assert len(exp.blocks("COMPUTE_METRICS")) == 2


def test_without_both_daemons_nothing_is_concluded_and_one_poll_catches_up(exp: Exp) -> None:
    started(exp, alert_after=1)
    for daemon in ("slurmctld", "slurmdbd"):
        exp.cluster.dev("stop", daemon)
    try:
        go(exp, "quick")
        wait_for(lambda: exp.blocks("ALERT"), 60, exp.log)
        assert all(len(exp.transitions(name)) == 1 for name in EXPECTED)
        assert exp.evalmon("status", str(exp.root)).returncode == 3
    finally:
        for daemon in ("slurmdbd", "slurmctld"):
            exp.cluster.dev("start", daemon)
    wait_for(lambda: exp.transitions("r1/quick/epoch0") == EXPECTED["r1/quick/epoch0"], 90, exp.log)
    go(exp, "long")
    check(exp)
    assert (len(exp.blocks("ALERT")), len(exp.blocks("QUERY_RECOVERED"))) == (1, 1)


@pytest.mark.full
def test_without_accounting_the_queues_state_is_enough_and_the_figures_come_later(exp: Exp) -> None:
    started(exp)
    exp.cluster.dev("stop", "slurmdbd")
    try:
        for name in ("quick", "long"):
            go(exp, name)
        wait_for(lambda: {name: exp.transitions(name) for name in EXPECTED} == EXPECTED, 60, exp.log)
        wait_for(lambda: exp.blocks("ALERT"), 60, exp.log)
        assert exp.blocks("ALL_COMPLETE") == []
    finally:
        exp.cluster.dev("start", "slurmdbd")
    check(exp)
    assert {ev["metrics_source"] for ev in exp.summary()["evals"]} <= {"seff", "sacct"}


@pytest.mark.full
def test_a_controller_that_goes_down_repeatedly_causes_no_wrong_line(exp: Exp) -> None:
    started(exp, alert_after=2)
    for round_ in range(4):
        exp.cluster.dev("stop", "slurmctld")
        time.sleep(2 + 3 * round_)
        if round_ == 1:
            go(exp, "quick")
        exp.cluster.dev("start", "slurmctld")
        time.sleep(3)
    go(exp, "long")
    check(exp)
    assert len(exp.blocks("ALERT")) == len(exp.blocks("QUERY_RECOVERED"))
