"""Tests that a dead node's lock is removed only if Slurm says that its job is over."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.experiment.experiment_lock import release_if_over
from evalmon_agent.files.lock import Holder
from evalmon_agent.slurm.client import Slurm
from experiments import Exp, ended, running

pytestmark = pytest.mark.survives("F6")

NODE, PID = "another-node", 4711


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    """An experiment whose observer, job 70 on another node, died holding the lock."""
    found = Exp(tmp_path)
    found.register(r1_a="11")
    (found.ours / "lock.json").write_text(json.dumps({"kind": "soft", "filesystem": "x", "host": "h", "schema": 1}))
    found.slurm.show([running("11")])
    found.observer().observe_once(at_least_s=0)
    beats(found)
    (found.ours / "state.json.lock").write_bytes(Holder(PID, NODE, 1).text)
    return found


def beats(exp: Exp, **more: object) -> None:
    path = exp.ours / "observer.json"
    heartbeat = {**json.loads(path.read_text()), "host": NODE, "pid": PID, "job_id": "70", **more}
    path.write_text(json.dumps(heartbeat))


def is_released(exp: Exp) -> bool:
    return release_if_over(exp.experiment, Slurm(exp.slurm.environ))


@pytest.mark.parametrize("queued", [True, False], ids=["squeue says so", "sacct says so"])
@pytest.mark.parametrize("state", ["NODE_FAIL", "TIMEOUT", "CANCELLED", "COMPLETED"])
def test_the_lock_is_removed_once_its_job_is_over(exp: Exp, state: str, *, queued: bool) -> None:
    exp.slurm.show([running("11"), ended("70", state, queued=queued, accounted=not queued)])
    assert is_released(exp)
    assert not is_released(exp)
    exp.observer(lock_wait_s=0.1).observe_once(at_least_s=0)


def test_an_observer_that_waited_in_vain_removes_the_lock_itself(exp: Exp) -> None:
    exp.slurm.show([ended("11"), ended("70", "NODE_FAIL")])
    exp.observer(lock_wait_s=0.1).observe_once(at_least_s=0)
    assert [current for _, _, current in exp.transitions()] == ["RUNNING", "COMPLETED"]


@pytest.mark.parametrize(
    "job", [running("70"), None, ended("70", "NODE_FAIL", queued=False)], ids=["runs", "gone", "old"]
)
def test_the_lock_stays_while_slurm_does_not_report_the_end(exp: Exp, job: object) -> None:
    jobs = [running("11")]
    if job is not None:
        jobs.append(job)  # type: ignore[arg-type]
    exp.slurm.show(jobs)
    if job is not None and jobs[-1].over:
        # The id was used before: the old job is over, the one that has it now is not.
        exp.slurm.answer("squeue", running("11").queue_row() + running("70").queue_row())
    assert not is_released(exp)
    with pytest.raises(LockUnavailableError, match=f"process {PID} on {NODE}"):
        exp.observer(lock_wait_s=0.1).observe_once(at_least_s=0)


@pytest.mark.parametrize("program", ["squeue", "sacct"])
def test_the_lock_stays_while_slurm_does_not_answer(exp: Exp, program: str) -> None:
    exp.slurm.show([ended("70", "NODE_FAIL")])
    exp.slurm.fail(program, "Unable to contact slurm controller")
    assert not is_released(exp)


@pytest.mark.parametrize("other", [{"pid": PID + 1}, {"host": "a-third-node"}, {"job_id": None}])
def test_the_lock_stays_if_its_holder_may_be_another_process(exp: Exp, other: dict[str, object]) -> None:
    beats(exp, **other)
    exp.slurm.show([ended("70", "NODE_FAIL")])
    assert not is_released(exp)


def test_the_lock_of_a_process_on_this_host_stays(exp: Exp) -> None:
    beats(exp, host=socket.gethostname(), pid=1)
    (exp.ours / "state.json.lock").write_bytes(Holder(1, socket.gethostname(), 1).text)
    exp.slurm.show([ended("70", "NODE_FAIL")])
    assert not is_released(exp)


def test_a_requeued_job_may_remove_its_own_lock_without_asking_slurm(exp: Exp, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "70")
    exp.slurm.show([running("11"), running("70")])
    assert is_released(exp)
