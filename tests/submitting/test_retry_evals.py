"""Tests `evalmon retry` on a fake Slurm that misbehaves: each eval is retried once, whatever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import faults
import second_user
from collect.test_evidence import inspect_log
from evalmon_agent.commands.submit import submit
from evalmon_agent.errors import UsageError
from evalmon_agent.settings import Settings
from evalmon_agent.submission.launcher import script_in
from evalmon_agent.submission.retry_plan import RetryRequest
from evalmon_agent.submitting.retry_evals import retry
from evalmon_agent.submitting.submit_evals import SubmitReport
from experiments import Exp, ended

FAILED = "FAILED: cause unknown, attempt 2 of 3"
ERROR = "FAILED: eval-error, attempt 2 of 3"
QUICK = Settings(poll_interval=1.0, seff_retry_delay=0.0)


def new(directory: Path, head: str = "", **evals: str) -> Exp:
    """These evals were submitted and are over: {name: state}."""
    exp = Exp(directory)
    for name in evals:
        script = exp.root / "r1" / "eval" / f"{name}_epoch0.slurm"
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(f"#!/bin/sh\n#SBATCH --time=30\n#SBATCH --mem=1G\n{head}true\n")
    submitted(exp)
    over(exp, list(evals.values()))
    return exp


def submitted(exp: Exp) -> None:
    environ = exp.slurm.environ
    submit(exp.session(QUICK, environ=environ), named=(), mode="dependency", dry_run=False)


def over(exp: Exp, states: list[str]) -> None:
    """End the accepted jobs with these states, in order; an array's tasks are given one by one."""
    jobs = []
    queued = [path for path in sorted((exp.slurm.directory / "queue").iterdir()) if "/evalmon-" not in path.read_text()]
    for path, state in zip(queued, states, strict=True):
        at = int(path.read_text().split("\x1f")[2])
        for task, one in enumerate(state.split()):
            job_id = f"{path.name}_{task}" if " " in state else path.name
            jobs.append(ended(job_id, one, submitted=at, started=at, ended=at + 1, exit_code="1:0", name="x"))
        path.rename(exp.slurm.directory / "ids" / path.name / "row")
    known = (exp.slurm.directory / "sacct.out").read_text()
    exp.slurm.answer("sacct", known + "".join(job.account_rows() for job in jobs))
    exp.observe_to_the_end()


def retried(exp: Exp, *names: str, settings: Settings = QUICK, dry_run: bool = False, **asked: Any) -> SubmitReport:
    environ = exp.slurm.environ
    session = exp.session(settings, environ=environ)
    return retry(
        session,
        RetryRequest(names, **asked),
        mode="dependency",
        dry_run=dry_run,
        sleep=lambda _: time.sleep(0.1),
    )


def in_queue(exp: Exp) -> Counter[str]:
    return Counter(script.partition("_")[0] for _, script in exp.slurm.accepted() if script.endswith(".slurm"))


def calls(exp: Exp, script: str) -> list[str]:
    return [call for call in exp.slurm.calls("sbatch") if script in call and "--test-only" not in call]


def told(report: SubmitReport) -> dict[str, str]:
    return {one["name"]: one["why"] for one in report.submitted}


def test_each_eval_gets_more_of_what_it_lacked_by_command_line_options_only(tmp_path: Path) -> None:
    exp = new(tmp_path, a="TIMEOUT", b="OUT_OF_MEMORY", c="FAILED", d="NODE_FAIL", e="COMPLETED")
    exp.slurm.answer("sinfo", "main*\x1f1-00:00:00\x1fNO\x1fn/a\n")
    report = retried(exp, dry_run=True)
    assert told(report) == {
        "r1/a/epoch0": "TIMEOUT: time-limit, attempt 2 of 3, time 00:30:00 -> 00:45:00",
        "r1/b/epoch0": "OUT_OF_MEMORY: host-out-of-memory, attempt 2 of 3, mem 1024M -> 1536M",
        "r1/c/epoch0": FAILED,
        "r1/d/epoch0": "NODE_FAIL: node-failure, attempt 2 of 3",
    }
    assert in_queue(exp) == Counter()
    assert told(retried(exp)) == told(report)
    assert " --time=00:45:00 -- " in calls(exp, "a_epoch0")[-1]
    assert " --mem=1536M -- " in calls(exp, "b_epoch0")[-1]
    assert [call.partition(" -- ")[0] for call in calls(exp, "c_epoch0")] == ["sbatch --parsable"] * 2
    assert in_queue(exp) == Counter("abcd")


def test_a_retry_adds_a_job_to_the_eval_and_the_experiment_completes_again(tmp_path: Path) -> None:
    exp = new(tmp_path, a="FAILED", b="COMPLETED")
    assert len(exp.blocks("ALL_COMPLETE")) == 1
    retried(exp)
    ev = exp.state()["evals"]["r1/a/epoch0"]
    assert ([job["job_id"] for job in ev["jobs"]], ev["state"], ev["final"]) == (["1001", "1004"], "PENDING", False)
    assert exp.state()["completion"]["status"] == "submitted"
    assert "--dependency=afterany:1004 " in exp.slurm.calls("sbatch")[-1]
    over(exp, ["COMPLETED"])
    assert len(exp.blocks("ALL_COMPLETE")) == 2
    ways = [(previous, current) for name, previous, current in exp.transitions() if name == "r1/a/epoch0"]
    once = [("PENDING", "RUNNING")]
    assert ways == [*once, ("RUNNING", "FAILED"), *once, ("RUNNING", "COMPLETED")]
    assert retried(exp).submitted == []


def test_only_unsuccessful_tasks_of_an_array_are_retried_with_its_task_limit(tmp_path: Path) -> None:
    exp = new(tmp_path, head="#SBATCH --array=0-3%2\n", a="COMPLETED FAILED COMPLETED TIMEOUT")
    report = retried(exp)
    assert sorted(one["why"] for one in report.submitted) == [
        f"--array=1%2; {FAILED}",
        "--array=3%2; TIMEOUT: time-limit, attempt 2 of 3, time 00:30:00 -> 00:45:00",
    ]
    evals = exp.state()["evals"]
    assert [len(evals[f"r1/a/epoch0[{task}]"]["jobs"]) for task in range(4)] == [1, 2, 1, 2]
    assert retried(exp).submitted == []


def test_a_later_retry_keeps_earlier_limits_and_three_retries_are_the_maximum(tmp_path: Path) -> None:
    exp = new(tmp_path, a="TIMEOUT")
    ends = ["FAILED", "FAILED"]
    for state in ends:
        retried(exp)
        over(exp, [state])
    assert [call.count("--time=00:45:00") for call in calls(exp, "a_epoch0")] == [0, 1, 1]
    report = retried(exp)
    assert (report.submitted, len(report.skipped)) == ([], 1)
    assert "it had 3 attempts already; --max-retries 3 or --force allows more" == report.skipped[0]["why"]
    assert told(retried(exp, force=True, dry_run=True)) == {"r1/a/epoch0": "FAILED: cause unknown, attempt 4"}
    assert told(retried(exp, max_retries=3)) == {"r1/a/epoch0": "FAILED: cause unknown, attempt 4 of 4"}


def scripts_of_last(exp: Exp, names: str) -> list[str]:
    """The arguments of the last sbatch of each of these evals."""
    last = [exp.record(calls(exp, f"{name}_epoch0")[-1]) for name in names]
    return [(script_in(path.read_bytes()) or b"").decode() for path in last]


def test_a_retry_runs_the_script_as_submitted_and_reports_a_changed_one(tmp_path: Path) -> None:
    exp = new(tmp_path, a="FAILED", b="FAILED", c="FAILED")
    folder = exp.root / "r1" / "eval"
    changed = folder / "a_epoch0.slurm"
    before = changed.read_text()
    changed.write_text("#!/bin/sh\n#SBATCH --time=30\nmended\n")
    changed.chmod(0o666)
    (folder / "b_epoch0.slurm").unlink()
    report = retried(exp)
    who = f"anybody can write it; run: chmod o-w {changed}"
    remark = f"runs as it was submitted, its script has changed since ({who}): --changed takes it"
    assert told(report) == {
        "r1/a/epoch0": f"{FAILED}; {remark}",
        "r1/b/epoch0": FAILED,
        "r1/c/epoch0": FAILED,
    }
    assert scripts_of_last(exp, "ab") == [before, before]
    changed.chmod(0o644)
    over(exp, ["FAILED"] * 3)
    report = retried(exp, changed=True)
    third = FAILED.replace("2", "3", 1)
    assert told(report) == {"r1/a/epoch0": third, "r1/c/epoch0": third}
    assert [one["why"] for one in report.skipped] == [f"its script is gone: {folder / 'b_epoch0.slurm'}"]
    assert "mended" in scripts_of_last(exp, "a")[0]


def test_each_task_of_an_array_runs_the_script_it_was_last_submitted_with(tmp_path: Path) -> None:
    exp = new(tmp_path, head="#SBATCH --array=0-1\n", a="FAILED FAILED")
    script = exp.root / "r1" / "eval" / "a_epoch0.slurm"
    before = script.read_text()
    script.write_text(before + "mended\n")
    retried(exp, "r1/a/epoch0[1]", changed=True)
    over(exp, ["COMPLETED FAILED"])
    script.write_text(before)
    report = retried(exp)
    assert [one["name"] for one in report.submitted] == ["r1/a/epoch0"] * 2
    found = {call.partition("--array=")[2][0]: exp.record(call).read_bytes() for call in calls(exp, "a_epoch0")[-2:]}
    assert {task: script_in(launcher) for task, launcher in found.items()} == {
        "0": before.encode(),
        "1": (before + "mended\n").encode(),
    }


@pytest.mark.parametrize("replaced_at", ["once", "after it was read", "never"])
def test_another_users_log_is_not_continued(tmp_path: Path, replaced_at: str) -> None:
    """The script would run what that log names."""
    log = tmp_path / "study" / "r1" / "eval" / "logs" / "x.eval"
    exp = new(tmp_path, head='inspect eval-retry "$EVALMON_RETRY_LOG"\n', a="FAILED")
    state = exp.ours / "state.json"
    [job] = exp.state()["evals"]["r1/a/epoch0"]["jobs"]
    log.parent.mkdir()
    log.write_bytes(inspect_log(status="error", at=job["attempts"][0]["submitted_at"]))
    (log.parents[1] / f"slurm-{job['job_id']}.out").write_text("Log: logs/x.eval\n")
    if replaced_at == "once":
        second_user.give(log)
    state.unlink()  # so that it is measured again
    exp.observe_to_the_end()
    if replaced_at == "after it was read":
        second_user.give(log)
    report = retried(exp)
    launcher = exp.record(calls(exp, "a_epoch0")[-1]).read_text()
    assert (str(log) in launcher) == (replaced_at == "never")
    expected = {
        "once": FAILED,
        "after it was read": f"{ERROR}, from its start: {log} belongs to {second_user.name()}",
        "never": f"{ERROR}, goes on from {log}",
    }
    assert told(report) == {"r1/a/epoch0": expected[replaced_at]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("#!/bin/sh\n#SBATCH --time=30\n#SBATCH hetjob\n#SBATCH --mem=1G\ntrue\n", "a heterogeneous job"),
        ("#!/bin/sh\n#SBATCH --array=0-3\ntrue\n", "its script is now an array"),
    ],
)
def test_evals_that_cannot_be_retried_are_reported(tmp_path: Path, text: str, why: str) -> None:
    exp = new(tmp_path, a="FAILED")
    (exp.root / "r1" / "eval" / "a_epoch0.slurm").write_text(text)
    report = retried(exp, changed=True)
    assert (report.submitted, why in str(report.skipped[0]["why"])) == ([], True)


def test_an_unknown_name_is_wrong_usage_and_submits_nothing(tmp_path: Path) -> None:
    exp = new(tmp_path, a="FAILED")
    with pytest.raises(UsageError, match="no eval is called r1/nobody; see: evalmon status"):
        retried(exp, "r1/a/epoch0", "r1/nobody")
    assert told(retried(exp, "r1/a/*")) == {"r1/a/epoch0": FAILED}


def test_with_max_submit_the_other_retries_wait_with_their_options(tmp_path: Path) -> None:
    exp = new(tmp_path, a="FAILED", b="TIMEOUT")
    one = Settings(poll_interval=1.0, seff_retry_delay=0.0, max_submit=1)
    report = retried(exp, settings=one)
    assert (list(told(report)), report.waiting) == (
        ["r1/a/epoch0"],
        [{"name": "r1/b/epoch0", "why": "max_submit: 1"}],
    )
    assert [row["why"] for row in retried(exp, settings=one).skipped] == ["it is already waiting to be submitted"]
    over(exp, ["COMPLETED"])
    assert exp.blocks("STATUS_CHECK")[-1].endswith("0 PENDING, 0 RUNNING, 1 COMPLETED, 1 UNSUBMITTED")
    retried(exp, settings=one)
    assert "--time=00:45:00" in calls(exp, "b_epoch0")[-1]
    assert in_queue(exp) == Counter("b")


def that_printed(directory: Path, head: str = "", *, state: str = "FAILED", **outputs: str) -> Exp:
    """Evals that ended like this; {name: the last lines of its output}."""
    exp = new(directory, head, **dict.fromkeys(outputs, "RUNNING"))
    jobs = []
    for number, (name, text) in enumerate(outputs.items()):
        job_id = str(1001 + number)
        (exp.root / "r1" / "eval" / f"slurm-{job_id}.out").write_text(f"{text}\n")
        at = int((exp.slurm.directory / "ids" / job_id / "row").read_text().split("\x1f")[2])
        code = "1:0" if state == "FAILED" else "0:0"
        jobs.append(ended(job_id, state, submitted=at, started=at, ended=at + 1, exit_code=code, name=name))
        (exp.slurm.directory / "queue" / job_id).unlink(missing_ok=True)
    exp.slurm.answer("sacct", "".join(job.account_rows() for job in jobs))
    exp.observe_to_the_end()
    return exp


MISSING = "ModuleNotFoundError: No module named 'flash_attn'"
TRACEBACK = f'Traceback (most recent call last):\n  File "/home/me/task.py", line 3, in <module>\n{MISSING}'
NO_SPACE = "cp: error writing 'x': No space left on device"


def evalmon(exp: Exp, *words: str) -> tuple[int, str, str]:
    done = exp.evalmon(*words)
    return done.returncode, done.stdout, done.stderr


def test_an_eval_certain_to_fail_again_is_skipped_with_its_cause_and_advice(tmp_path: Path) -> None:
    exp = that_printed(tmp_path, a=TRACEBACK, b=NO_SPACE)
    code, out, err = evalmon(exp, "retry", ".", "--json")
    report = json.loads(out)
    assert (code, err) == (0, "")
    assert {one["name"]: one["why"] for one in report["submitted"]} == {
        "r1/b/epoch0": "FAILED: disk-full, attempt 2 of 3"
    }
    why = (
        "FAILED: missing-module returns until somebody fixes it; once it is fixed, "
        "add --cause missing-module --force (or --changed, if the fix is in the script)"
    )
    assert report["skipped"] == [{"name": "r1/a/epoch0", "job_id": "1001", "why": why}]
    assert evalmon(exp, "retry", ".", "--name", "r1/a/epoch0")[1].splitlines()[:2] == [
        "nothing to run again",
        f"skipped r1/a/epoch0  job 1001: {why}",
    ]


def test_force_or_its_cause_retries_exactly_that_eval(tmp_path: Path) -> None:
    exp = that_printed(tmp_path, a=TRACEBACK, b=NO_SPACE)
    for options in (["--dry-run"], []):
        code, out, _ = evalmon(exp, "retry", ".", "--cause", "missing-module", "--force", "--json", *options)
        report = json.loads(out)
        expected = {"r1/a/epoch0": "FAILED: missing-module, attempt 2 of 3"}
        assert (code, {one["name"]: one["why"] for one in report["submitted"]}) == (0, expected)
        assert report["skipped"] == []
    assert in_queue(exp) == Counter("a")


def test_a_changed_script_is_retried_without_force_and_an_unchanged_one_is_not(tmp_path: Path) -> None:
    exp = that_printed(tmp_path, a=TRACEBACK, b=TRACEBACK)
    script = exp.root / "r1" / "eval" / "a_epoch0.slurm"
    script.write_text(script.read_text() + "pip install flash-attn\n")
    report = retried(exp, changed=True)
    assert told(report) == {"r1/a/epoch0": "FAILED: missing-module, attempt 2 of 3"}
    [skipped] = report.skipped
    assert (skipped["name"], "and its script has not changed" in str(skipped["why"])) == ("r1/b/epoch0", True)


def test_force_also_retries_successful_evals(tmp_path: Path) -> None:
    exp = new(tmp_path, a="COMPLETED", b="TIMEOUT")
    exp.slurm.answer("sinfo", "main*\x1f0:30:00\x1fNO\x1fn/a\n")
    most = "it already had the partition's limit of 00:30:00; choose a partition with a longer one"
    report = retried(exp)
    assert (report.submitted, [one["why"] for one in report.skipped]) == (
        [],
        [f"TIMEOUT: {most}; --force runs it with the same"],
    )
    assert told(retried(exp, force=True)) == {
        "r1/a/epoch0": "COMPLETED, attempt 2 of 3",
        "r1/b/epoch0": f"TIMEOUT: time-limit, attempt 2 of 3, {most}",
    }


@pytest.mark.parametrize(
    ("cause", "advice"),
    [
        ("missing_module", "did you mean missing-module?"),
        ("timelimit", "did you mean time-limit?"),
        ("xyz", "evalmon report names the cause of each eval."),
    ],
)
def test_an_unknown_cause_is_wrong_usage_with_a_suggestion(tmp_path: Path, cause: str, advice: str) -> None:
    exp = new(tmp_path, a="FAILED")
    code, out, err = evalmon(exp, "retry", ".", "--cause", cause)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{cause!r} is not a cause; {advice}" in err
    code, out, _ = evalmon(exp, "retry", ".", "--cause", "gpu-lost")
    assert (code, out.splitlines()[0]) == (0, "nothing to run again")


@pytest.mark.parametrize("nodes", ["", " ", "n1;rm", "/home/me/nodes", "n1,,n2", "n[1", "-n1", "n1,"])
def test_an_invalid_list_of_nodes_is_wrong_usage(tmp_path: Path, nodes: str) -> None:
    exp = new(tmp_path, a="FAILED")
    code, out, err = evalmon(exp, "retry", ".", f"--exclude-nodes={nodes}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "is not a list of nodes; write it like n3 or n[1-2],n7" in err


def test_excluded_nodes_are_added_to_the_scripts_now_and_later(tmp_path: Path) -> None:
    exp = new(tmp_path, head="#SBATCH -x n[1-2]\n", a="NODE_FAIL", b="NODE_FAIL")
    words = ["retry", ".", "--exclude-nodes", "n7,n2", "--json"]
    for options in (["--dry-run"], []):
        code, out, _ = evalmon(exp, *words, *options)
        expected = "NODE_FAIL: node-failure, attempt 2 of 3, excluding n7,n2"
        assert (code, {one["why"] for one in json.loads(out)["submitted"]}) == (0, {expected})
        tests = [call for call in exp.slurm.calls("sbatch") if "--test-only" in call]
        assert " --exclude=n[1-2],n7,n2 -- " in tests[-1]
    assert " --exclude=n[1-2],n7,n2 -- " in calls(exp, "a_epoch0")[-1]
    over(exp, ["FAILED", "FAILED"])
    retried(exp)
    assert " --exclude=n[1-2],n7,n2 -- " in calls(exp, "a_epoch0")[-1]


def test_a_waiting_eval_keeps_its_excluded_nodes(tmp_path: Path) -> None:
    exp = new(tmp_path, a="FAILED", b="FAILED")
    one = Settings(poll_interval=1.0, seff_retry_delay=0.0, max_submit=1)
    report = retried(exp, settings=one, exclude_nodes="n7")
    assert [ev["name"] for ev in report.waiting] == ["r1/b/epoch0"]
    over(exp, ["COMPLETED"])
    submit(exp.session(one, environ=exp.slurm.environ), named=(), mode="dependency", dry_run=False)
    assert " --exclude=n7 -- " in calls(exp, "b_epoch0")[-1]


def test_each_tasks_cause_is_given_for_an_array(tmp_path: Path) -> None:
    exp = new(tmp_path, head="#SBATCH --array=0-3\n", a="FAILED NODE_FAIL FAILED COMPLETED")
    [why] = told(retried(exp)).values()
    assert why == f"--array=0-2; [0,2] {FAILED}; [1] NODE_FAIL: node-failure, attempt 2 of 3"


def test_a_suspect_attempt_stays_suspect_after_the_next_one(tmp_path: Path) -> None:
    exp = that_printed(tmp_path, state="COMPLETED", a=TRACEBACK)
    assert len(retried(exp, force=True).submitted) == 1
    over(exp, ["COMPLETED"])
    assert evalmon(exp, "report", ".")[0] == 0
    [ev] = json.loads((exp.ours / "summary.json").read_text())["evals"]
    attempts = [(attempt["state"], attempt["verdict"]) for attempt in ev["attempts"]]
    assert (ev["verdict"], attempts) == ("ok", [("COMPLETED", "suspect"), ("COMPLETED", "ok")])
    assert ": job 1001 COMPLETED, suspect (" in (exp.ours / "summary.md").read_text()


@pytest.mark.survives("F7", "F20")
def test_two_retries_at_once_submit_each_eval_once(tmp_path: Path) -> None:
    exp = new(tmp_path, a="FAILED", b="FAILED")
    exp.slurm.before("sbatch", "sleep 0.05\n")
    assert faults.crowd(4, lambda _: retried(exp)) == [0] * 4
    assert in_queue(exp) == Counter("ab")


def settles(exp: Exp) -> None:
    """Retry again, undisturbed, and check that each eval is in Slurm once more with its job registered."""
    retried(exp)
    assert in_queue(exp) == Counter("ab")
    evals = exp.state()["evals"].values()
    assert {ev["job_id"] for ev in evals} == {i for i, script in exp.slurm.accepted() if script.endswith(".slurm")}
    assert [len(ev["jobs"]) for ev in evals] == [2, 2]


def kill_everywhere(directory: Path, *, step: int) -> int:
    template = directory / "over"
    exp = new(template, a="FAILED", b="FAILED")
    kept = directory / "kept"
    shutil.copytree(template, kept, symlinks=True)

    def restored() -> None:
        shutil.rmtree(template)
        shutil.copytree(kept, template, symlinks=True)
        exp.anew()

    points = faults.points(lambda: retried(exp), directory / "trace")[::step]
    settles(exp)
    for point in points:
        restored()
        faults.killed_at(lambda: retried(exp), point)
        with faults.noted(f"killed at {point}"):
            settles(exp)
    return len(points)


@faults.needs_strace
@pytest.mark.survives("F1", "F20")
def test_a_kill_at_a_system_call_retries_nothing_twice_and_forgets_nothing(tmp_path: Path) -> None:
    assert kill_everywhere(tmp_path, step=53) > 5


@faults.needs_strace
@pytest.mark.full
@pytest.mark.survives("F1", "F20")
def test_a_kill_at_any_system_call_retries_nothing_twice_and_forgets_nothing(tmp_path: Path) -> None:
    assert kill_everywhere(tmp_path, step=1) > 200


@pytest.mark.survives("F20")
def test_after_a_kill_between_sbatch_and_its_record_the_job_is_found(tmp_path: Path) -> None:
    exp = new(tmp_path, a="FAILED", b="FAILED")
    exp.slurm.after("sbatch", "kill -STOP $$\n")
    pid = faults.forked(lambda: retried(exp))
    os.kill(pid, signal.SIGCONT)
    faults.wait_until(lambda: in_queue(exp) == Counter("a"))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    exp.slurm.mend("sbatch")
    settles(exp)
