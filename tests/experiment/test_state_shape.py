"""Tests that state.json has the keys that the contract names, from the first save on."""

from __future__ import annotations

import json
from pathlib import Path

from experiments import Exp, pending, running


def test_a_waiting_eval_has_its_state_and_attempts(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.observer().record()
    unseen = json.loads((exp.ours / "state.json").read_text())
    assert set(unseen) >= {"schema", "generation", "experiment", "sidecar", "completion", "evals"}
    [ev] = unseen["evals"].values()
    [job] = ev["jobs"]
    assert (ev["job_id"], ev["state"], job["job_id"], "attempts" in job) == ("11", "PENDING", "11", False)
    exp.slurm.show([pending("11")])
    exp.observer().observe_once(at_least_s=0)
    [ev] = exp.state()["evals"].values()
    assert (ev["state"], len(ev["jobs"][0]["attempts"])) == ("PENDING", 1)


def test_a_state_of_the_earlier_shape_is_set_aside_and_rebuilt(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.slurm.show([running("11")])
    exp.observer().observe_once(at_least_s=0)
    state = exp.state()
    [ev] = state["evals"].values()
    ev |= {"attempts": ev["jobs"][0].pop("attempts"), "own": [], "logged": [["11", "RUNNING"]], "logged_stamps": [None]}
    (exp.ours / "state.json").write_text(json.dumps(state))
    exp.observer().observe_once(at_least_s=0)
    assert len(list(exp.ours.glob("state.json.corrupt-*"))) == 1
    assert len(exp.state()["evals"]["r1/a"]["jobs"][0]["attempts"]) == 1
    assert exp.transitions() == [("r1/a", "PENDING", "RUNNING")]
