"""Tests features in combination: watched and waiting evals, two completion jobs, partly known arrays."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from evalmon_agent.commands.complete import complete
from evalmon_agent.commands.status import status
from evalmon_agent.commands.submit import submit
from evalmon_agent.commands.watch import WatchReport, watch
from evalmon_agent.experiment import state as state_file
from evalmon_agent.jobs.adoption import parse_requests
from evalmon_agent.jobs.monitor_jobs import active_jobs
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.environment import for_monitor_jobs
from evalmon_agent.submission.retry_plan import RetryRequest
from evalmon_agent.submitting.retry_evals import retry
from evalmon_agent.submitting.submit_evals import SubmitReport
from evalmon_agent.submitting.submit_waiting import Submitter
from evalmon_agent.tracking.registry import Accepted, Intent, Refused, Submission
from experiments import Exp, ended, pending, running

QUICK = Settings(poll_interval=1.0, seff_retry_delay=0.0)


def submitted(exp: Exp, settings: Settings = QUICK, *, mode: Any = "dependency") -> SubmitReport:
    environ = exp.slurm.environ
    return submit(
        exp.session(settings, environ=environ),
        named=(),
        mode=mode,
        dry_run=False,
        sleep=lambda _: time.sleep(0.01),
    )


def watched(exp: Exp, *words: str) -> WatchReport:
    environ = exp.slurm.environ
    session = exp.session(QUICK, environ=environ)
    return watch(session, requests=parse_requests(words), match=None, mode="dependency", dry_run=False)


def retried(exp: Exp, *names: str) -> SubmitReport:
    session = exp.session(QUICK)
    return retry(session, RetryRequest(names), mode="dependency", dry_run=False, sleep=lambda _: None)


def in_job(exp: Exp, settings: Settings) -> Submitter:
    environ = {**for_monitor_jobs(exp.slurm.environ), "SLURM_JOB_ID": "77"}
    return Submitter(exp.session(settings, environ=environ), "monitor job", lambda _: None)


def completes(exp: Exp, job_id: str, settings: Settings = QUICK) -> None:
    environ = {**for_monitor_jobs(exp.slurm.environ), "SLURM_JOB_ID": job_id}
    pauses = iter(range(20))
    complete(exp.session(settings, environ=environ), sleep=lambda _: next(pauses))  # type: ignore[arg-type,return-value]


def of_completion(exp: Exp) -> list[str]:
    return [call for call in exp.slurm.calls("sbatch") if "evalmon-completion" in call]


def test_adopted_evals_that_are_over_do_not_count_for_the_limit(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.slurm.show([running("11"), running("12")])
    watched(exp, "x=11", "y=12")
    exp.write_script("a")
    report = submitted(exp, Settings(poll_interval=1.0, max_submit=2))
    assert [one["why"] for one in report.waiting] == ["max_submit: 2"]
    exp.slurm.show([ended("11"), ended("12")])
    exp.observe_to_the_end()
    assert len(in_job(exp, Settings(poll_interval=1.0, max_submit=2)).run().submitted) == 1


def test_an_adopted_eval_is_not_retried_and_the_true_reason_is_given(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    path = str(exp.write_script("a"))
    exp.slurm.show([running("11", command=path)])
    watched(exp, "11")
    exp.slurm.show([ended("11", "FAILED", exit_code="1:0", command=path)])
    exp.observe_to_the_end()
    assert [(one["name"], one["why"]) for one in retried(exp).skipped] == [
        ("r1/a/epoch0", "evalmon did not submit it; submit its script yourself, then run: evalmon watch")
    ]


def test_each_task_of_a_watched_array_is_waited_for(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.slurm.show([running("11_0"), running("11_1"), running("12")])
    report = watched(exp, "11", "b=12")
    assert report.completion is not None
    assert "--dependency=afterany:11_0:11_1:12 " in of_completion(exp)[0]
    assert active_jobs(exp.experiment, state_file.load(exp.experiment)) == ["11_0", "11_1", "12"]


def test_an_array_with_a_watched_task_is_not_submitted_again(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    path = str(exp.write_script("a", "#SBATCH --array=0-3\n"))
    exp.slurm.show([running(f"11_{task}", command=path) for task in range(4)])
    watched(exp, "11_2")
    report = submitted(exp)
    assert report.submitted == []
    assert [(one["name"], one["job_id"]) for one in report.skipped] == [("r1/a/epoch0", "11_2")]
    assert set(exp.state()["evals"]) == {"r1/a/epoch0[2]"}


def test_a_watched_script_is_not_submitted_again(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.slurm.show([running("11", command=str(exp.write_script("a")))])
    watched(exp, "11")
    report = submitted(exp)
    assert (report.submitted, [one["job_id"] for one in report.skipped]) == ([], ["11"])


@pytest.mark.survives("F20")
def test_only_the_latest_of_two_completion_jobs_hands_over(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11", r1_b="12")
    for job_id in ("70", "71"):
        exp.accept("", job_id, what="completion")
    exp.slurm.show([ended("11"), running("12"), running("70"), pending("71")])
    completes(exp, "70")
    assert of_completion(exp) == []
    completes(exp, "71")
    assert len(of_completion(exp)) == 1


def test_a_completion_job_hands_over_if_the_later_one_is_gone(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11", r1_b="12")
    for job_id in ("70", "71"):
        exp.accept("", job_id, what="completion")
    exp.slurm.show([ended("11"), running("12"), running("70"), ended("71", "CANCELLED", queued=True)])
    completes(exp, "70")
    assert len(of_completion(exp)) == 1


def test_an_array_above_a_lowered_max_submit_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.write_script("a")
    exp.write_script("b", "#SBATCH --array=0-2\n")
    submitted(exp, Settings(poll_interval=1.0, seff_retry_delay=0.0, max_submit=3))
    [(job_id, _), *_] = exp.slurm.accepted()
    row = exp.slurm.directory / "queue" / job_id
    at = int(row.read_text().split("\x1f")[2])
    row.unlink()
    exp.slurm.show([ended(job_id, submitted=at, started=at, ended=at + 1)])
    exp.observe_to_the_end()
    before = len(of_completion(exp))
    completes(exp, "1002", Settings(poll_interval=0.001, seff_retry_delay=0.0, max_submit=2))
    assert len(of_completion(exp)) == before
    [alert] = exp.blocks("ALERT")
    assert "an array of 3" in alert
    assert "max_submit: 2" in alert


def test_a_sidecar_that_is_being_cancelled_does_not_count_as_running(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.write_script("a")
    submitted(exp, mode="sidecar")
    [sidecar] = [job for job, name in exp.slurm.accepted() if name == "evalmon-sidecar"]
    row = exp.slurm.directory / "queue" / sidecar
    row.write_text(row.read_text().replace("PENDING", "COMPLETING"))
    report = submitted(exp, mode="sidecar")
    assert report.sidecar is not None
    assert report.sidecar.status == "submitted"


def limit(exp: Exp, jobs: int) -> None:
    """From now on the cluster allows this many jobs."""
    count = 'there=0; for file in "$dir"/queue/*; do [ -e "$file" ] && there=$((there + 1)); done\n'
    words = "sbatch: error: QOSMaxSubmitJobPerUserLimit\\nsbatch: error: Batch job submission failed"
    exp.slurm.before("sbatch", f"{count}[ $there -lt {jobs} ] || {{ printf '{words}\\n' >&2; exit 1; }}\n")


@pytest.mark.survives("F20")
def test_at_a_job_limit_the_completion_job_submits_its_successor_before_the_evals(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    for name in "abcdef":
        exp.write_script(name)
    limit(exp, 3)
    report = submitted(exp)
    assert (len(report.submitted), len(report.waiting)) == (3, 3)
    exp.end_accepted()
    exp.accept("", "70", what="completion")
    completes(exp, "70")
    taken = [name.removesuffix("_epoch0.slurm") for _, name in exp.slurm.accepted()]
    assert taken == ["d", "evalmon-completion", "e"]
    assert "--dependency=afterany:1004 " in of_completion(exp)[-1]
    assert exp.blocks("ALL_COMPLETE") == []


@pytest.mark.survives("F20")
def test_a_missing_completion_job_is_submitted_by_the_next_observer_once_there_is_room(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    for name in "ab":
        exp.write_script(name)
    limit(exp, 2)
    report = submitted(exp)
    assert report.completion is not None
    assert report.completion.status == "refused"
    limit(exp, 3)
    (exp.ours / "observer.json").unlink()
    status(exp.session(QUICK))
    assert exp.slurm.accepted()[-1][1] == "evalmon-completion"
    assert "--dependency=afterany:1001:1002 " in of_completion(exp)[-1]


@pytest.mark.survives("F20")
def test_a_missing_completion_job_is_submitted_even_if_an_earlier_one_finished(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_x="11")
    exp.accept("", "70", what="completion")
    exp.slurm.show([ended("11")])
    exp.observe_to_the_end()
    for name in "ab":
        exp.write_script(name)
    limit(exp, 2)
    submitted(exp)
    exp.observer().observe_once(at_least_s=0)
    assert exp.state()["completion"]["status"] == "waits"
    limit(exp, 3)
    (exp.ours / "observer.json").unlink()
    status(exp.session(QUICK))
    assert "--dependency=afterany:1001:1002 " in of_completion(exp)[-1]
    assert exp.state()["completion"]["job_id"] == "1003"
    assert exp.state()["completion"]["status"] == "submitted"


def on_its_way(exp: Exp, name: str, *, pid: int, since_s: float = 0.0) -> None:
    """This eval is registered as being submitted, and Slurm has not answered yet."""
    submission = Submission(name, f"{exp.root}/{name}.slurm", token="e" * 16)
    exp.experiment.ledger.append(Intent(submission, time.time() - since_s, socket.gethostname(), pid))


def test_while_an_eval_is_being_submitted_the_end_of_the_others_is_not_the_end(tmp_path: Path) -> None:
    """Ten broken evals end faster than a thousand are submitted, while the sidecar is running."""
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    on_its_way(exp, "r1/b", pid=os.getppid())
    exp.slurm.show([ended("11")])
    exp.observe_to_the_end()
    assert exp.blocks("ALL_COMPLETE") == []
    assert in_job(exp, QUICK).run().why == "nothing waits"
    exp.experiment.ledger.append(Accepted("e" * 16, "12", time.time()))
    exp.slurm.show([ended("11"), ended("12", submitted=int(time.time()))])
    exp.observe_to_the_end()
    assert "2 evaluations completed" in exp.blocks("ALL_COMPLETE")[0]


@pytest.mark.survives("F20")
@pytest.mark.parametrize("who", ["the completion job", "who looks"])
def test_an_eval_whose_submitter_died_is_looked_for_before_the_end(tmp_path: Path, who: str) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    on_its_way(exp, "r1/b", pid=2**22 + 1, since_s=60)
    exp.slurm.show([ended("11")])
    if who == "who looks":
        assert status(exp.session(QUICK)).counts == {"COMPLETED": 1}
    else:
        completes(exp, "70")
    assert len(exp.blocks("ALL_COMPLETE")) == 1


def test_during_a_retry_no_end_is_reported_and_a_refused_retry_repeats_none(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    exp.slurm.show([ended("11", "FAILED")])
    exp.observe_to_the_end()
    on_its_way(exp, "r1/a", pid=os.getppid())
    exp.observe_to_the_end()
    exp.experiment.ledger.append(Refused("e" * 16, "no such partition", time.time()))
    exp.observe_to_the_end()
    assert len(exp.blocks("ALL_COMPLETE")) == 1
