"""Tests that the monitor jobs on a real Slurm notify a real receiver of each event once."""

from __future__ import annotations

import json
from collections import Counter

import pytest

import receivers
from real_slurm.cluster import Exp, wait_for

pytestmark = pytest.mark.slurm

PRINTED = "a-secret-line-of-the-eval"


def test_the_monitor_jobs_send_each_event_once_and_no_text_that_an_eval_printed(exp: Exp) -> None:
    with receivers.web() as web:
        events = exp.root / "events.jsonl"
        exp.settings(notify=[web.url], notify_command=["sh", "-c", f"cat >>{events}"])
        exp.script("r1", "ok_epoch0", f"echo {PRINTED}; sleep 2\n")
        for name in ("a", "b"):
            exp.script("r1", f"{name}_epoch0", f"echo {PRINTED}; no-such-command-{PRINTED}\n")
        assert exp.submit().returncode == 0
        exp.wait_complete()
        wait_for(lambda: len(web.got) >= 2 and events.exists(), 120, exp.outputs)
        wait_for(lambda: not exp.queued(), 120, exp.outputs)
    recorded = [json.loads(line) for line in events.read_text().splitlines()]
    assert Counter(event["event"] for event in recorded) == {"failed": 1, "complete": 1}
    assert [event["title"].partition(" ")[0] for event in recorded if event["event"] == "complete"] == ["1"]
    assert sorted(web.titles) == sorted(f"{exp.root.name}: {event['title']}" for event in recorded)
    assert PRINTED not in json.dumps([recorded, web.got])
    assert PRINTED in exp.log(), "the diagnosis has it, so it could have gone out"
    assert receivers.PASSWORD not in exp.log() + exp.outputs()
