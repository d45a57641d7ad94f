"""Tests that evals beyond the limit wait in the registry, and that each observer submits them, each once."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import faults
from evalmon_agent.commands.complete import complete
from evalmon_agent.commands.status import status
from evalmon_agent.commands.stop import stop
from evalmon_agent.commands.submit import submit
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.ledger import Ledger
from evalmon_agent.experiment.state import LastSaved
from evalmon_agent.jobs import register
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.environment import for_monitor_jobs
from evalmon_agent.submitting.submit_evals import SubmitReport
from evalmon_agent.submitting.submit_waiting import Progress, Submitter
from evalmon_agent.tracking.registry import Entries, Intent, Planned, Submission, waiting
from experiments import Exp, ended, pending

LIMIT = (
    "sbatch: error: QOSMaxSubmitJobPerUserLimit\n"
    "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size "
    "and/or time limits)"
)
TWO = Settings(poll_interval=1.0, seff_retry_delay=0.0, max_submit=2)


def new(directory: Path, *names: str, head: str = "") -> Exp:
    exp = Exp(directory)
    for name in names or ("a", "b", "c", "d", "e"):
        exp.write_script(name, head)
    return exp


def submitted(exp: Exp, settings: Settings = TWO, *, mode: Any = "sidecar", **environ: str) -> SubmitReport:
    every = {**exp.slurm.environ, "HF_TOKEN": "hf_secret", **environ}
    return submit(
        exp.session(settings, environ=every),
        named=(),
        mode=mode,
        dry_run=False,
        sleep=lambda _: time.sleep(0.1),
    )


def in_job(exp: Exp, settings: Settings = TWO, sleep: Callable[[float], object] = time.sleep, **more: str) -> Submitter:
    """Submit as the sidecar of that submission would, with the environment that Slurm gives it."""
    environ = {**for_monitor_jobs({**exp.slurm.environ, "HF_TOKEN": "hf_secret"}), "SLURM_JOB_ID": "77", **more}
    return Submitter(exp.session(settings, environ=environ), "monitor job", sleep)


def scripts(exp: Exp) -> list[str]:
    return [script.removesuffix("_epoch0.slurm") for _, script in exp.slurm.accepted() if script.endswith(".slurm")]


def evals_of(exp: Exp) -> list[str]:
    return [job_id for job_id, script in exp.slurm.accepted() if script.endswith(".slurm")]


def all_over(exp: Exp) -> None:
    """End every eval in Slurm, and record that."""
    found = []
    for job_id in evals_of(exp):
        row = exp.slurm.directory / "queue" / job_id
        at = int(row.read_text().split("\x1f")[2])
        found.append(ended(job_id, submitted=at, started=at, ended=at + 1))
        row.rename(exp.slurm.directory / "ids" / job_id / "row")
    exp.slurm.show(found)
    exp.observe_to_the_end()


def gone(exp: Exp) -> list[str]:
    """The scripts of the jobs that are over."""
    found = [path.read_text().split("\x1f")[-2] for path in (exp.slurm.directory / "ids").glob("*/row")]
    return [os.path.basename(path).removesuffix("_epoch0.slurm") for path in found]


def names(report: SubmitReport) -> list[str]:
    return [one["name"] for one in report.submitted]


def test_no_more_than_max_submit_are_submitted_and_the_others_are_shown_as_unsubmitted(tmp_path: Path) -> None:
    exp = new(tmp_path)
    report = submitted(exp)
    assert (names(report), report.exit_status) == (["r1/a/epoch0", "r1/b/epoch0"], 0)
    assert [(one["name"], one["why"]) for one in report.waiting] == [
        (f"r1/{name}/epoch0", "max_submit: 2") for name in "cde"
    ]
    assert scripts(exp) == ["a", "b"]
    assert "5 jobs found - 2 PENDING, 0 RUNNING, 0 COMPLETED, 3 UNSUBMITTED" in exp.blocks("STATUS_CHECK")[-1]
    summary = status(exp.session(TWO))
    assert summary.counts == {"UNSUBMITTED": 3, "PENDING": 2}
    assert summary.verdicts["active"] == 5
    assert [(ev.job_id, ev.state) for ev in summary.evals[2:]] == [(None, "UNSUBMITTED")] * 3


def test_as_evals_end_the_next_are_submitted_and_the_experiment_is_over_after_the_last(tmp_path: Path) -> None:
    exp = new(tmp_path)
    submitted(exp)
    assert in_job(exp).run() == Progress(why="room", detail="max_submit: 2")
    for left in (3, 1):
        all_over(exp)
        assert exp.blocks("ALL_COMPLETE") == []
        progress = in_job(exp).run()
        assert (len(progress.submitted), len(exp.slurm.accepted()) - 2) == (min(left, 2), min(left, 2))
        exp.observer().observe_once(at_least_s=0)
    all_over(exp)
    assert len(exp.blocks("ALL_COMPLETE")) == 1
    assert "5 evaluations completed - 5 COMPLETED" in exp.blocks("ALL_COMPLETE")[0]
    assert sorted(gone(exp)) == ["a", "b", "c", "d", "e"]


@pytest.mark.survives("S11")
def test_late_submissions_get_the_first_submits_environment_which_is_in_no_file(tmp_path: Path) -> None:
    exp = new(tmp_path)
    exp.slurm.after("sbatch", 'env -0 > "$dir/env.${script##*/}"\n')
    strange = {"SBATCH_ACCOUNT": "mine", "TMPDIR": "/login", "ODD": "two\nlines \udcff", "CUDA_VISIBLE_DEVICES": "7"}
    submitted(exp, **strange)
    all_over(exp)
    carried = dict(
        pair.split("=", 1)
        for pair in (exp.slurm.directory / "env.evalmon-sidecar")
        .read_bytes()
        .decode(errors="surrogateescape")
        .split("\0")[:-1]
    )
    assert "SBATCH_ACCOUNT" not in carried
    on_the_node = {**carried, "TMPDIR": "/job/77", "SLURM_JOB_ID": "77", "SLURM_MEM_PER_NODE": "9"}
    session = exp.session(TWO, environ={**on_the_node, "PATH": f"/node:{carried['PATH']}"})
    Submitter(session, "monitor job").run()
    first, late = ((exp.slurm.directory / f"env.{name}_epoch0.slurm").read_bytes() for name in "ac")
    assert sorted(first.split(b"\0")) == sorted(late.split(b"\0"))
    assert b"HF_TOKEN=hf_secret" in late
    for path in exp.ours.rglob("*"):
        assert path.is_dir() or b"hf_secret" not in path.read_bytes()


def test_without_that_environment_they_wait_and_the_log_says_once_what_to_do(tmp_path: Path) -> None:
    exp = new(tmp_path)
    submitted(exp)
    all_over(exp)
    bare = {**exp.slurm.environ, "SLURM_JOB_ID": "77"}
    for _ in range(2):
        # The fake's accounting lists no active evals: the completion job finds all of them over.
        complete(exp.session(TWO, environ=bare), sleep=lambda _: None)
    assert sorted(gone(exp)) == ["a", "b"]
    [alert] = exp.blocks("ALERT")
    shown = status(exp.session(TWO, environ={**exp.slurm.environ, "CONDA_PREFIX": "/elsewhere"}))
    assert "their environment is not available here): submitted once there is room" in shown.evals[-1].advice[0]
    assert alert.startswith("ALERT: 3 evaluations not submitted yet\nReason: their environment is not available here")
    assert f"Action: Run, with their environment set up: evalmon submit {exp.root}" in alert
    assert exp.blocks("ALL_COMPLETE") == []
    assert json.loads((exp.ours / "summary.json").read_text())["complete"] is False
    # A command from a shell with another environment submits none, though nobody else polls.
    (exp.ours / "observer.json").unlink()
    status(exp.session(TWO, environ={**exp.slurm.environ, "CONDA_PREFIX": "/elsewhere"}))
    assert scripts(exp) == []
    assert names(submitted(exp, CONDA_PREFIX="/as/the/user/will")) == ["r1/c/epoch0", "r1/d/epoch0"]


def test_a_completion_job_that_left_the_queue_is_replaced(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    for name in "ab":
        exp.write_script(name)
        assert exp.evalmon("submit", ".").returncode == 0
        [job_id] = [job_id for job_id, script in exp.slurm.accepted() if script == "evalmon-completion"]
        (exp.slurm.directory / "queue" / job_id).unlink()
    assert sum("/evalmon-completion" in call for call in exp.slurm.calls("sbatch")) == 2


UNFIT = "sbatch: error: Batch job submission failed: Invalid partition name specified"


def test_an_invalid_request_is_refused_for_good_inside_a_job_and_the_others_are_submitted(tmp_path: Path) -> None:
    exp = new(tmp_path)
    submitted(exp)
    all_over(exp)
    exp.slurm.refuse("c_epoch0.slurm", UNFIT)
    progress = in_job(exp).run()
    assert [(submission.name, outcome.refusal) for submission, outcome in progress.refused] == [("r1/c/epoch0", UNFIT)]
    assert (scripts(exp), progress.why) == (["d", "e"], "nothing waits")
    exp.observer().record()
    assert [block.split("\n")[0] for block in exp.blocks("ALERT")] == ["ALERT: r1/c/epoch0 refused by Slurm"]
    all_over(exp)
    assert "4 evaluations completed - 4 COMPLETED" in exp.blocks("ALL_COMPLETE")[0]
    assert status(exp.session(TWO)).verdicts["refused"] == 1


@pytest.mark.parametrize("words", ["sbatch: error: Access/permission denied", "use the login nodes to submit"])
def test_nothing_is_refused_for_good_where_jobs_may_not_submit_at_all(tmp_path: Path, words: str) -> None:
    exp = new(tmp_path)
    submitted(exp)
    all_over(exp)
    for name in "cde":
        exp.slurm.refuse(f"{name}_epoch0.slurm", words)
    progress = in_job(exp).run()
    assert (progress.refused, progress.why) == ([], "stuck")
    assert [entry.submission.name[3] for entry in waiting(exp.anew().experiment.ledger.entries())] == ["c", "d", "e"]


def test_a_command_in_the_same_environment_submits_them_if_no_observer_runs(tmp_path: Path) -> None:
    exp = new(tmp_path)
    submitted(exp, mode="dependency")
    all_over(exp)
    (exp.ours / "observer.json").unlink()
    same = {**exp.slurm.environ, "HF_TOKEN": "hf_secret", "SSH_CLIENT": "another session", "PWD": "/"}
    assert status(exp.session(TWO, environ=same)).counts == {"UNSUBMITTED": 1, "PENDING": 2, "COMPLETED": 2}
    assert scripts(exp) == ["c", "d"]


def test_the_completion_job_submits_the_next_and_a_successor_of_itself(tmp_path: Path) -> None:
    exp = new(tmp_path)
    submitted(exp, mode="dependency")
    all_over(exp)
    [job_id] = [job_id for job_id, script in exp.slurm.accepted() if script == "evalmon-completion"]
    environ = {**for_monitor_jobs({**exp.slurm.environ, "HF_TOKEN": "hf_secret"}), "SLURM_JOB_ID": job_id}
    complete(exp.session(TWO, environ=environ))
    assert scripts(exp) == ["c", "d"]
    successor = exp.slurm.calls("sbatch")[-1]
    assert f"--dependency=afterany:{':'.join(evals_of(exp))} " in successor
    assert exp.blocks("ALL_COMPLETE") == []


@pytest.mark.survives("F20")
def test_a_sites_job_limit_is_waited_for_without_any_setting_and_reported_once(tmp_path: Path) -> None:
    exp = new(tmp_path)
    settings = Settings(poll_interval=1.0, seff_retry_delay=0.0)
    exp.slurm.refuse("c_epoch0.slurm", LIMIT)
    report = submitted(exp, settings)
    assert (names(report), report.refused, report.exit_status) == (["r1/a/epoch0", "r1/b/epoch0"], [], 0)
    assert [one["name"] for one in report.waiting] == ["r1/c/epoch0", "r1/d/epoch0", "r1/e/epoch0"]
    assert in_job(exp, settings).run().why == "limit"
    report = submitted(exp, settings)
    assert [one["why"] for one in report.skipped[2:]] == ["already registered, waiting to be submitted"] * 3
    [told] = exp.blocks("SUBMISSION_WAITS")
    assert told.startswith("SUBMISSION_WAITS: 3 evaluations not submitted yet\nReason: sbatch: error: QOSMaxSubmitJob")
    (exp.slurm.directory / "refused" / "c_epoch0.slurm").unlink()
    assert len(in_job(exp, settings).run().submitted) == 3
    assert scripts(exp) == ["a", "b", "c", "d", "e"]


def test_any_other_refusal_is_reported_and_not_tried_again(tmp_path: Path) -> None:
    exp = new(tmp_path)
    exp.slurm.refuse("a_epoch0.slurm", "sbatch: error: invalid partition specified: nowhere")
    report = submitted(exp)
    assert [one["name"] for one in report.refused] == ["r1/a/epoch0"]
    assert (names(report), len(report.waiting)) == (["r1/b/epoch0", "r1/c/epoch0"], 2)
    all_over(exp)
    assert [one.name for one, _ in in_job(exp).run().submitted] == ["r1/d/epoch0", "r1/e/epoch0"]


def test_they_wait_for_the_login_node_where_no_job_may_submit(tmp_path: Path) -> None:
    exp = new(tmp_path)
    submitted(exp)
    all_over(exp)
    exp.slurm.fail("sbatch", "sbatch: error: no submissions from compute nodes, please")
    submitter = in_job(exp)
    progress = submitter.run()
    assert (progress.why, progress.refused) == ("stuck", [])
    assert "no submissions from compute nodes, please" in progress.detail
    calls = len(exp.slurm.calls("sbatch"))
    assert (submitter.run().why, len(exp.slurm.calls("sbatch"))) == ("stuck", calls)
    exp.slurm.mend("sbatch")
    assert names(submitted(exp)) == ["r1/c/epoch0", "r1/d/epoch0"]


def test_the_stagger_holds_between_any_two_submitters(tmp_path: Path) -> None:
    exp = new(tmp_path, "a", "b", "c")
    settings = Settings(poll_interval=1.0, seff_retry_delay=0.0, stagger=40.0)
    report = submitted(exp, settings)
    assert (names(report), report.waiting[0]["why"]) == (["r1/a/epoch0"], "stagger: 40 s")
    slept: list[float] = []
    progress = in_job(exp, settings, sleep=slept.append).run(until_monotonic_s=time.monotonic() + 30)
    assert (progress.why, progress.submitted, slept) == ("stagger", [], [])

    def stopped(seconds: float) -> bool:
        slept.append(seconds)
        return True

    in_job(exp, settings, sleep=stopped).run(until_monotonic_s=time.monotonic() + 60)
    assert (scripts(exp), len(slept), 20 < slept[0] <= 40) == (["a"], 1, True)
    short = Settings(poll_interval=1.0, seff_retry_delay=0.0, stagger=0.3)
    in_job(exp, short).run(until_monotonic_s=time.monotonic() + 30)
    intents = [entry.at for entry in exp.experiment.ledger.entries() if entry.is_eval]
    assert scripts(exp) == ["a", "b", "c"]
    assert all(later - earlier >= 0.3 for earlier, later in itertools.pairwise(intents))


def test_an_array_that_can_never_fit_is_refused_before_anything_is_submitted(tmp_path: Path) -> None:
    exp = new(tmp_path, "a", head="#SBATCH --array=0-2\n")
    with pytest.raises(Exception, match="an array of 3 evals, more than max_submit: 2"):
        submitted(exp)
    assert not exp.ours.exists()
    report = submitted(exp, Settings(poll_interval=1.0, max_submit=3))
    assert names(report) == ["r1/a/epoch0"]
    assert set(exp.state()["evals"]) == {"r1/a/epoch0[0]", "r1/a/epoch0[1]", "r1/a/epoch0[2]"}


def test_after_stop_waiting_evals_are_not_submitted_until_submitted_again(tmp_path: Path) -> None:
    exp = new(tmp_path, "a", "b", "c")
    submitted(exp)
    submitter = in_job(exp)
    assert stop(exp.session(TWO))[1] == ["r1/c/epoch0"]
    all_over(exp)
    assert submitter.run().submitted == []
    (exp.ours / "observer.json").unlink()
    same = {**exp.slurm.environ, "HF_TOKEN": "hf_secret"}
    assert status(exp.session(TWO, environ=same)).counts == {"COMPLETED": 2}
    assert scripts(exp) == []
    assert names(submitted(exp)) == ["r1/c/epoch0"]


def test_a_reader_that_does_not_know_the_record_ignores_it() -> None:
    planned = Planned(Submission("r1/a", "/s", token="t"), 1.0)
    assert [] == [entry for entry in list(Entries([])) if entry.is_waiting]
    [entry] = list(Entries([planned]))
    assert (entry.is_waiting, entry.is_open, waiting([entry])) == (True, False, [entry])


@pytest.mark.survives("F7", "F20")
def test_many_simultaneous_submitters_submit_each_once_within_the_limit(tmp_path: Path) -> None:
    exp = new(tmp_path)
    submitted(exp)
    all_over(exp)
    exp.slurm.before("sbatch", "sleep 0.05\n")
    assert faults.crowd(4, lambda _: in_job(exp).run()) == [0] * 4
    assert Counter(scripts(exp)) == Counter(["c", "d"])


def kill_everywhere(directory: Path, *, step: int) -> int:
    def prepared(where: Path) -> Exp:
        exp = new(where, "a", "b", "c")
        submitted(exp, Settings(poll_interval=1.0, seff_retry_delay=0.0, max_submit=1))
        all_over(exp)
        return exp

    def settles(exp: Exp) -> None:
        in_job(exp, sleep=lambda _: time.sleep(0.1)).run()
        assert Counter(scripts(exp)) == Counter(["b", "c"])
        exp.observer().observe_once(at_least_s=0)
        assert {ev["job_id"] for name, ev in exp.state()["evals"].items() if "a" not in name[2:4]} == set(evals_of(exp))

    whole = prepared(directory / "whole")
    points = faults.points(lambda: in_job(whole).run(), directory / "trace")[::step]
    settles(whole)
    for number, point in enumerate(points):
        exp = prepared(directory / str(number))
        faults.killed_at(lambda exp=exp: in_job(exp).run(), point)  # type: ignore[misc]
        with faults.noted(f"killed at {point}"):
            settles(exp)
    return len(points)


@faults.needs_strace
@pytest.mark.survives("F1", "F20")
def test_a_kill_at_a_system_call_submits_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    assert kill_everywhere(tmp_path, step=23) > 3


@faults.needs_strace
@pytest.mark.full
@pytest.mark.survives("F1", "F20")
def test_a_kill_at_any_system_call_submits_nothing_twice_and_loses_nothing(tmp_path: Path) -> None:
    assert kill_everywhere(tmp_path, step=1) > 50


@pytest.mark.survives("F20")
def test_after_a_kill_between_sbatch_and_its_record_the_job_is_found(tmp_path: Path) -> None:
    exp = new(tmp_path)
    submitted(exp)
    all_over(exp)
    exp.slurm.after("sbatch", "kill -STOP $$\n")
    pid = faults.forked(lambda: in_job(exp).run())
    os.kill(pid, signal.SIGCONT)
    faults.wait_until(lambda: scripts(exp) == ["c"])
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    exp.slurm.mend("sbatch")
    in_job(exp, sleep=lambda _: None).run()
    assert Counter(scripts(exp)) == Counter(["c", "d"])


@pytest.mark.survives("F20")
def test_a_last_eval_whose_submitter_died_still_counts_as_left(tmp_path: Path) -> None:
    exp = new(tmp_path, "a", "b", "c")
    submitted(exp)
    exp.slurm.before("sbatch", "kill -STOP $$\n")
    all_over(exp)
    pid = faults.forked(lambda: in_job(exp).run())
    os.kill(pid, signal.SIGCONT)
    faults.wait_until(lambda: any("c_epoch0" in call for call in exp.slurm.calls("sbatch")))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    exp.slurm.mend("sbatch")
    exp.observe_to_the_end()
    assert exp.blocks("ALL_COMPLETE") == []
    assert exp.blocks("STATUS_CHECK")[-1].endswith("2 COMPLETED, 1 UNSUBMITTED")
    assert len(in_job(exp, sleep=lambda _: None).run().submitted) == 1
    all_over(exp)
    assert "3 evaluations completed - 3 COMPLETED" in exp.blocks("ALL_COMPLETE")[0]


def test_a_claim_reads_only_what_was_registered_since_the_last(tmp_path: Path) -> None:
    """Five thousand evals take five thousand claims: reading the whole registry each time would be too much."""
    exp = Exp(tmp_path)
    exp.register(**{f"r1_{number}": str(number) for number in range(300)})
    submissions = [Submission(f"r2/{number}", f"/{number}.slurm", token=f"{number:x}") for number in range(3)]
    assert register.claim_evals(exp.session(Settings()), submissions[0]) == "claimed"
    Ledger(exp.experiment.registry).append(Planned(submissions[1], 1.0))
    before = faults.bytes_read()
    assert register.claim_evals(exp.session(Settings()), submissions[2]) == "claimed"
    assert faults.bytes_read() - before < os.path.getsize(exp.experiment.registry) / 3


def test_a_claim_loads_the_state_only_if_it_changed(tmp_path: Path) -> None:
    """With max_submit, each of five thousand claims would load five megabytes."""
    exp = Exp(tmp_path)
    exp.register(**{f"r1_{number}": str(number) for number in range(1, 301)})
    exp.slurm.show([pending("1"), pending("2")])
    exp.observer().observe_once()
    submissions = [Submission(f"r2/{number}", f"/{number}.slurm", token=f"{number:x}") for number in range(3)]
    session, saved = exp.session(Settings(max_submit=302)), LastSaved()
    assert register.claim_evals(session, submissions[0], saved=saved) == "claimed"
    before = faults.bytes_read()
    assert register.claim_evals(session, submissions[1], saved=saved) == "claimed"
    assert faults.bytes_read() - before < os.path.getsize(exp.experiment.state) / 3
    assert register.claim_evals(session, submissions[2], saved=saved) == "no room"
    exp.slurm.show([ended("1"), ended("2")])
    exp.observe_to_the_end()
    assert register.claim_evals(session, submissions[2], saved=saved) == "claimed"


@faults.needs_strace
def test_waiting_evals_are_registered_in_one_write(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.experiment.prepare(group_readable=False)
    planned = [Planned(Submission(f"r/{number}", f"/{number}", token=f"{number:x}"), 1.0) for number in range(50)]
    calls = faults.points(lambda: exp.experiment.ledger.append(*planned), tmp_path / "trace", calls="fsync,fdatasync")
    assert len(calls) <= 2
    assert [entry.token for entry in exp.experiment.ledger.entries()] == [one.submission.token for one in planned]


@pytest.mark.survives("F7", "F20")
def test_an_eval_that_another_process_submits_during_a_search_stays_with_that_process(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    exp.experiment.prepare(group_readable=False)
    exp.slurm.show([])
    session, submission = exp.session(Settings()), Submission("r1/a", "/a.slurm", token="e" * 16)
    exp.experiment.ledger.append(Planned(submission, time.time()))
    exp.experiment.ledger.append(Intent(submission, time.time() - 60, socket.gethostname(), 2**22 + 1))

    def meanwhile(_: float) -> None:
        other = dataclasses.replace(session, experiment=Experiment.at(str(exp.root)))
        register.resolve(other, sleep=lambda _: None)
        assert register.claim_evals(other, submission) == "claimed"

    [entry] = register.resolve(session, sleep=meanwhile)
    assert (entry.is_open, entry.is_waiting) == (True, False)
