"""Tests the sidecar as the process that Slurm runs: it polls, adopts settings, hands over, and ends on request."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import faults
from as_root import needs_root
from evalmon_agent.experiment.experiment_lock import locked
from evalmon_agent.tracking.registry import Intent, Planned, Submission
from experiments import STARTED, Exp, ended, pending, running

POLL_S = 0.2


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    configure(found)
    found.register(r1_a="11")
    found.report("11", "r1/a", started_at=float(STARTED))
    found.slurm.show([running("11")])
    return found


def configure(exp: Exp, **settings: Any) -> None:
    path = exp.root / "evalmon.yaml"
    path.write_text(json.dumps({"poll_interval": POLL_S, "seff_retry_delay": 0.1, **settings}))


@contextmanager
def sidecar(exp: Exp, **env: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "evalmon_agent", "sidecar", "--token", "t", "--", str(exp.root)],
        env={**exp.slurm.environ, "SLURM_JOB_ID": "77", "SLURM_JOB_END_TIME": str(int(time.time()) + 86400), **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait(exp: Exp, condition: Callable[[], object], *, within_s: float = 15.0) -> None:
    try:
        faults.wait_until(condition, within_s=within_s)
    except AssertionError:
        raise AssertionError(exp.log()) from None


def polls(exp: Exp) -> int:
    return exp.log().count("] STATUS_CHECK: ")


def output(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.read()


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> float:
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == 0, output(process)
    return time.monotonic() - began


def test_the_sidecar_watches_measures_and_ends_with_the_evals(exp: Exp) -> None:
    with sidecar(exp) as process:
        wait(exp, lambda: polls(exp) >= 2)
        metrics = exp.ours / "evalmon.prom"
        wait(exp, lambda: metrics.exists() and 'state="RUNNING"} 1.0\n' in metrics.read_text())
        exp.slurm.measure(ended("11"))
        exp.slurm.show([ended("11")])
        assert process.wait(20) == 0
        assert output(process) == ""
    assert f'evalmon_complete{{experiment="{exp.root}"}} 1.0\n' in metrics.read_text()
    kinds = [block.partition(":")[0] for block in exp.news()]
    assert kinds == [
        "MONITOR_STARTED",
        "STATE_CHANGE",
        "STATE_CHANGE",
        "COMPUTE_METRICS",
        "ALL_COMPLETE",
        "MONITOR_STOPPED",
    ]
    assert "Reason: all evaluations are over\nJob ID: 77" in exp.news()[-1]
    assert json.loads((exp.ours / "summary.json").read_text())["complete"]


def test_the_sidecar_ends_within_seconds_if_another_process_completed_the_experiment(exp: Exp) -> None:
    configure(exp, poll_interval=3600)
    with sidecar(exp) as process:
        wait(exp, lambda: polls(exp) >= 1)
        wait(exp, lambda: "RUNNING" in exp.log())
        exp.slurm.show([ended("11")])
        began = time.monotonic()
        exp.observe_to_the_end()
        assert len(exp.blocks("ALL_COMPLETE")) == 1
        assert process.wait(20) == 0, output(process)
        assert time.monotonic() - began < 20
    assert polls(exp) == 2
    assert "Reason: all evaluations are over" in exp.blocks("MONITOR_STOPPED")[0]


def test_a_save_of_another_process_that_completes_nothing_ends_no_sidecar(exp: Exp) -> None:
    configure(exp, poll_interval=3600)
    exp.register(r1_b="12")
    with sidecar(exp) as process:
        wait(exp, lambda: polls(exp) >= 1)
        exp.slurm.show([ended("11"), pending("12")])
        exp.observe_to_the_end()
        time.sleep(7)
        assert process.poll() is None
        assert stop(process) < 3


@pytest.mark.survives("F23")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_sidecar_within_seconds(exp: Exp, number: int) -> None:
    with sidecar(exp) as process:
        wait(exp, lambda: polls(exp) >= 1)
        assert stop(process, number) < 3
    assert f"Reason: ended by {signal.Signals(number).name}" in exp.blocks("MONITOR_STOPPED")[0]
    assert exp.blocks("QUERY_ERROR") == []


@pytest.mark.survives("F14", "F23")
@pytest.mark.parametrize("program", ["squeue", "sacct", "seff"])
def test_a_signal_ends_the_sidecar_while_a_slurm_command_hangs(exp: Exp, tmp_path: Path, program: str) -> None:
    hangs = tmp_path / "hangs"
    exp.slurm.before(program, f"echo $$ > {hangs}; trap '' TERM; sleep 60\n")
    exp.slurm.show([ended("11")])
    with sidecar(exp) as process:
        wait(exp, lambda: hangs.exists() and hangs.read_text())
        assert stop(process) < 3
    assert not Path(f"/proc/{hangs.read_text().strip()}").exists()
    assert len(exp.blocks("MONITOR_STOPPED")) == 1
    assert exp.blocks("QUERY_ERROR") == []


@pytest.mark.survives("F23")
def test_a_second_signal_changes_nothing(exp: Exp) -> None:
    with sidecar(exp) as process:
        wait(exp, lambda: polls(exp) >= 1)
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        assert process.wait(5) == 0
    assert len(exp.blocks("MONITOR_STOPPED")) == 1


@pytest.mark.survives("F23")
def test_a_signal_at_any_time_leaves_complete_blocks(exp: Exp) -> None:
    for delay in (0.05, 0.2, 0.3):
        with sidecar(exp) as process:
            count = len(exp.blocks("MONITOR_STARTED"))
            wait(exp, lambda count=count: len(exp.blocks("MONITOR_STARTED")) > count)  # type: ignore[misc]
            time.sleep(delay)
            stop(process)
        assert len(exp.blocks("MONITOR_STOPPED")) == len(exp.blocks("MONITOR_STARTED"))


def test_changed_settings_are_adopted_and_invalid_ones_are_not(exp: Exp) -> None:
    with sidecar(exp) as process:
        wait(exp, lambda: polls(exp) >= 1)
        (exp.root / "evalmon.yaml").write_text("poll_interval: soon\n")
        wait(exp, lambda: len(exp.blocks("MONITOR_CONFIG")) == 1)
        before = polls(exp)
        wait(exp, lambda: polls(exp) >= before + 2)
        configure(exp, alert_after=1)
        wait(exp, lambda: len(exp.blocks("MONITOR_CONFIG")) == 2)
        exp.slurm.fail("squeue", "Socket timed out")
        wait(exp, lambda: exp.blocks("ALERT"))
        stop(process)
    assert exp.blocks("ALERT")[0].startswith("ALERT: 1 poll failed")
    bad, good = exp.blocks("MONITOR_CONFIG")
    assert bad.startswith("MONITOR_CONFIG: settings not applied\nError: ")
    assert "poll_interval must be a number" in bad
    assert good == f"MONITOR_CONFIG: settings applied\nFile: {exp.root / 'evalmon.yaml'}"
    assert len(exp.blocks("QUERY_ERROR")) >= 1


@pytest.mark.survives("F19")
def test_the_sidecar_hands_over_before_its_time_limit(exp: Exp) -> None:
    with sidecar(exp, SLURM_JOB_END_TIME=str(int(time.time()) + 2)) as process:
        assert process.wait(20) == 0
    assert [script for _, script in exp.slurm.accepted()] == ["evalmon-sidecar"]
    assert "Reason: handed over to job 1001 before the time limit" in exp.blocks("MONITOR_STOPPED")[0]
    exp.observer().record()
    assert exp.state()["sidecar"]["job_id"] == "1001"


def test_squeue_is_asked_once_for_the_end_time_if_the_environment_lacks_it(exp: Exp) -> None:
    (exp.slurm.directory / "ends" / "77").write_text(f"{int(time.time()) + 2}\n")
    with sidecar(exp, SLURM_JOB_END_TIME="") as process:
        assert process.wait(20) == 0
    assert len([call for call in exp.slurm.calls("squeue") if " -j " in call]) == 1
    assert "handed over" in exp.blocks("MONITOR_STOPPED")[0]


@pytest.mark.survives("F20")
def test_a_refused_successor_is_reported_and_the_completion_job_does_the_rest(exp: Exp) -> None:
    exp.slurm.refuse("evalmon-sidecar", "sbatch: error: QOSMaxSubmitJobPerUserLimit")
    with sidecar(exp, SLURM_JOB_END_TIME=str(int(time.time()) + 2)) as process:
        assert process.wait(20) == 0
    reason = "time limit near and no successor (sbatch: error: QOSMaxSubmitJobPerUserLimit)"
    assert reason in exp.blocks("MONITOR_STOPPED")[0]


@pytest.mark.survives("F14")
@pytest.mark.full
def test_a_hanging_seff_delays_a_poll_by_its_time_out_at_most(exp: Exp, tmp_path: Path) -> None:
    exp.accept("r1/b", "12")
    exp.slurm.show([ended("11"), running("12")])
    exp.slurm.before("seff", "sleep 60\n")
    with sidecar(exp) as process:
        wait(exp, lambda: exp.slurm.calls("seff"))
        asked = time.monotonic()
        before = polls(exp)
        wait(exp, lambda: polls(exp) > before, within_s=25)
        assert time.monotonic() - asked < 22
        stop(process)


def test_blocks_wait_until_they_can_be_written(exp: Exp) -> None:
    """For example a lock that is held: no poll is lost for good, and the sidecar's first blocks come first."""
    path = exp.ours / "lock.json"
    path.write_text(json.dumps({"kind": "soft", "filesystem": "x", "host": "h", "schema": 1}))
    marker = exp.ours / "state.json.lock"
    marker.touch()
    with sidecar(exp) as process:
        time.sleep(1.5)
        assert process.poll() is None
        assert exp.log() == ""
        marker.unlink()
        wait(exp, lambda: polls(exp) >= 1, within_s=60)
        stop(process)
    assert exp.news()[0].startswith("MONITOR_STARTED")
    assert len(exp.blocks("MONITOR_STARTED")) == 1


@pytest.mark.survives("F2")
@needs_root
def test_on_a_full_disk_the_sidecar_goes_on_and_logs_everything_once_there_is_room(tmp_path: Path) -> None:
    with faults.small_disk(tmp_path / "disk", kib=256) as disk:
        exp = Exp(disk)
        configure(exp)
        exp.register(r1_a="11")
        exp.report("11", "r1/a", started_at=float(STARTED))
        exp.slurm.show([running("11")])
        subprocess.run(["cp", "/dev/zero", disk / "ballast"], stderr=subprocess.DEVNULL, check=False)
        with sidecar(exp) as process:
            time.sleep(1.5)
            assert process.poll() is None, output(process)
            assert exp.log() == ""
            (disk / "ballast").unlink()
            wait(exp, lambda: polls(exp) >= 1)
            stop(process)
        assert [block.partition(":")[0] for block in exp.news()] == [
            "MONITOR_STARTED",
            "STATE_CHANGE",
            "MONITOR_STOPPED",
        ]


@pytest.mark.survives("F11")
def test_a_state_of_a_newer_evalmon_ends_the_sidecar_with_78(exp: Exp) -> None:
    exp.observer().observe_once(at_least_s=0)
    path = exp.ours / "state.json"
    path.write_bytes(path.read_bytes().replace(b'"schema":1', b'"schema":2'))
    before = path.read_bytes()
    with sidecar(exp) as process:
        assert process.wait(20) == 78
        said = output(process)
    assert said == f"evalmon: {path}: written by a newer evalmon; upgrade this one (the file is left as it is)\n"
    assert path.read_bytes() == before


@pytest.mark.survives("F20")
def test_the_sidecar_itself_records_that_slurm_accepted_it(exp: Exp) -> None:
    """Its submitter was killed before it could record that."""
    exp.experiment.ledger.append(Intent(Submission(token="t", what="sidecar"), time.time(), "h", 1))
    with sidecar(exp) as process:
        wait(exp, lambda: polls(exp) >= 1)
        stop(process)
    assert exp.state()["sidecar"]["job_id"] == "77"


@pytest.mark.survives("F19")
def test_after_a_kill_at_any_time_the_next_sidecar_goes_on(exp: Exp) -> None:
    exp.slurm.show([pending("11")])
    for delay in (0.3, 0.4, 0.5, 0.6):
        with sidecar(exp) as process:
            time.sleep(delay)
            process.kill()
        exp.slurm.show([running("11")])
    exp.slurm.show([ended("11")])
    with sidecar(exp) as process:
        assert process.wait(20) == 0
    assert exp.transitions() == [("r1/a", "PENDING", "RUNNING"), ("r1/a", "RUNNING", "COMPLETED")]
    assert len(exp.blocks("ALL_COMPLETE")) == len(exp.blocks("COMPUTE_METRICS")) == 1
    assert not [name for name in os.listdir(exp.ours) if "corrupt" in name]


# Succession: when another sidecar follows, and when this one leaves.


@pytest.mark.survives("F19")
def test_the_sidecar_stays_until_its_successor_runs(exp: Exp) -> None:
    with sidecar(exp, SLURM_JOB_END_TIME=str(int(time.time()) + 12)) as process:
        wait(exp, lambda: exp.slurm.accepted(), within_s=30)
        before = polls(exp)
        wait(exp, lambda: polls(exp) >= before + 3)
        assert process.poll() is None
        exp.slurm.start("1001")
        assert process.wait(20) == 0
    assert "Reason: handed over to job 1001 before the time limit" in exp.blocks("MONITOR_STOPPED")[0]
    assert [script for _, script in exp.slurm.accepted()] == ["evalmon-sidecar"]


@pytest.mark.survives("F7", "F19")
def test_the_later_of_two_sidecars_stays_even_if_the_earlier_was_stopped_and_resumes(exp: Exp) -> None:
    exp.accept("", "77", what="sidecar")
    with sidecar(exp) as first:
        wait(exp, lambda: polls(exp) >= 1)
        with locked(exp.experiment):  # so that it does not hold the lock while it is stopped
            first.send_signal(signal.SIGSTOP)
        exp.accept("", "88", what="sidecar")
        exp.slurm.show([running("11"), running("88", command="/x/evalmon-sidecar")])
        with sidecar(exp, SLURM_JOB_ID="88") as second:
            before = polls(exp)
            wait(exp, lambda: polls(exp) >= before + 2)
            first.send_signal(signal.SIGCONT)
            assert first.wait(20) == 0
            assert second.poll() is None
            exp.slurm.show([ended("11"), running("88")])
            assert second.wait(20) == 0
    assert [block.splitlines()[1] for block in exp.blocks("MONITOR_STOPPED")] == [
        "Reason: job 88 watches now",
        "Reason: all evaluations are over",
    ]
    assert exp.transitions() == [("r1/a", "PENDING", "RUNNING"), ("r1/a", "RUNNING", "COMPLETED")]
    assert len(exp.blocks("ALL_COMPLETE")) == 1


@pytest.mark.survives("F19")
def test_a_pending_sidecar_replaces_no_running_one(exp: Exp) -> None:
    exp.accept("", "77", what="sidecar")
    exp.accept("", "88", what="sidecar")
    exp.slurm.show([running("11"), pending("88")])
    with sidecar(exp) as process:
        wait(exp, lambda: polls(exp) >= 5)
        assert process.poll() is None
        stop(process)


@pytest.mark.survives("F19")
def test_the_sidecar_leaves_if_the_evals_wait_for_its_place(exp: Exp) -> None:
    (exp.ours / "jobs" / "11.json").unlink()
    exp.slurm.show([pending("11", reason="QOSMaxJobsPerUserLimit")])
    with sidecar(exp) as process:
        assert process.wait(20) == 0
    [stopped] = exp.blocks("MONITOR_STOPPED")
    assert "Reason: evaluations wait for QOSMaxJobsPerUserLimit, none runs, and this job counts in it" in stopped
    assert f"there is no completion job; to finish, run: evalmon status {exp.root}" in stopped
    assert polls(exp) == 3


@pytest.mark.survives("F19")
def test_a_sidecar_that_was_preempted_for_good_is_replaced(exp: Exp) -> None:
    exp.slurm.answer(
        "scontrol", "JobId=77 JobState=COMPLETING PreemptEligibleTime=1 PreemptTime=2026-11-25T18:17:30 x=y"
    )
    with sidecar(exp) as process:
        wait(exp, lambda: polls(exp) >= 1)
        stop(process)
    assert "Reason: preempted, handed over to job 1001" in exp.blocks("MONITOR_STOPPED")[0]
    assert [script for _, script in exp.slurm.accepted()] == ["evalmon-sidecar"]


@pytest.mark.survives("F19")
@pytest.mark.parametrize("said", ["PreemptEligibleTime=1 PreemptTime=None", "garbage", ""])
def test_a_cancelled_or_requeued_sidecar_is_not_replaced(exp: Exp, said: str) -> None:
    exp.slurm.answer("scontrol", said)
    with sidecar(exp) as process:
        wait(exp, lambda: polls(exp) >= 1)
        stop(process)
    assert "Reason: ended by SIGTERM" in exp.blocks("MONITOR_STOPPED")[0]
    assert exp.slurm.accepted() == []


@pytest.mark.survives("F15", "S14")
def test_after_the_alert_slurm_is_asked_less_often_and_others_polls_do_not_reset_that(exp: Exp) -> None:
    configure(exp, alert_after=1)
    exp.slurm.fail("squeue", "Unable to contact slurm controller (connect failure)")
    with sidecar(exp) as process:
        wait(exp, lambda: exp.blocks("ALERT"))
        time.sleep(3)
        calls = len(exp.slurm.calls("squeue"))
        stop(process)
    # 0.2, 0.4, 0.8, 1.6 s: not every 0.2 s.
    assert 2 <= calls <= 6
    assert len(exp.blocks("ALERT")) == 1


def test_a_sidecar_that_cannot_submit_waiting_evals_says_so_and_leaves_with_the_last_eval(exp: Exp) -> None:
    """Its environment was not passed on, so it does not have that of the evals."""
    exp.experiment.ledger.append(Planned(Submission("r1/late", "/r1/late.slurm", token="p"), 1.0, "salt:hash"))
    with sidecar(exp) as process:
        wait(exp, lambda: exp.blocks("ALERT"))
        assert "1 RUNNING, 0 COMPLETED, 1 UNSUBMITTED" in exp.blocks("STATUS_CHECK")[-1]
        job = ended("11")
        exp.slurm.show([job])
        exp.slurm.measure(job)
        assert process.wait(15) == 0
    [alert] = exp.blocks("ALERT")
    assert f"Action: Run, with their environment set up: evalmon submit {exp.root}" in alert
    assert f"Reason: 1 evaluation not submitted yet; run: evalmon submit {exp.root}" in exp.blocks("MONITOR_STOPPED")[0]
    assert (exp.blocks("ALL_COMPLETE"), exp.slurm.calls("sbatch")) == ([], [])
    summary = json.loads((exp.ours / "summary.json").read_text())
    assert (summary["complete"], summary["counts"]) == (False, {"UNSUBMITTED": 1, "COMPLETED": 1})
