"""Tests `drop`, `cancel` and `logs`, and evals that Slurm refused, as a user runs them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evalmon_agent.commands.cancel import cancel
from evalmon_agent.settings import Settings
from experiments import Exp, ended, pending, running

INVALID = "sbatch: error: Batch job submission failed: Invalid partition name specified"
NAMES = ["r1/a/epoch0", "r1/b/epoch0", "r1/c/epoch0"]


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    (found.root / "evalmon.yaml").write_text('{"poll_interval": 1, "seff_retry_delay": 0}')
    for name in ("a", "b", "c"):
        found.write_script(name)
    return found


def evalmon(exp: Exp, command: str, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return exp.evalmon(command, str(exp.root), *words, **options)


def submit(exp: Exp, *words: str) -> subprocess.CompletedProcess[str]:
    return evalmon(exp, "submit", *words, "--mode", "dependency")


def all_over(exp: Exp, state: str = "COMPLETED") -> None:
    """End every eval in Slurm, and record that."""
    exp.end_accepted(state)
    exp.anew().observe_to_the_end()


def verdicts(exp: Exp) -> dict[str, str]:
    done = evalmon(exp, "status", "--json")
    return {ev["name"]: ev["verdict"] for ev in json.loads(done.stdout)["evals"]}


def mend(exp: Exp, name: str) -> None:
    (exp.slurm.directory / "refused" / f"{name}_epoch0.slurm").unlink()


class TestRefused:
    def test_a_refused_eval_needs_attention_until_it_is_submitted(self, exp: Exp) -> None:
        exp.slurm.refuse("a_epoch0.slurm", INVALID)
        assert submit(exp).returncode == 1
        assert verdicts(exp) == {"r1/b/epoch0": "active", "r1/c/epoch0": "active", "r1/a/epoch0": "refused"}
        [alert] = exp.blocks("ALERT")
        assert alert.startswith(f"ALERT: r1/a/epoch0 refused by Slurm\nReason: {INVALID}\nAction: Change")
        assert "2 jobs found - 2 PENDING, 0 RUNNING, 0 COMPLETED" in exp.blocks("STATUS_CHECK")[-1]
        all_over(exp)
        # A refused eval does not delay the end.
        assert ["Summary: 2 evaluations completed - 2 COMPLETED, 0 FAILED"] == [
            block.split("\n")[1] for block in exp.blocks("ALL_COMPLETE")
        ]
        for command in ("status", "report"):
            done = evalmon(exp, command)
            assert (done.returncode, INVALID in done.stdout) == (1, True), done
        summary = json.loads((exp.ours / "summary.json").read_text())
        assert (summary["complete"], summary["verdicts"]["refused"]) == (True, 1)
        [ev] = [ev for ev in summary["evals"] if ev["verdict"] == "refused"]
        assert (ev["job_id"], ev["refusal"], ev["diagnosis"]["cause"]) == (None, INVALID, "refused-by-slurm")

    @pytest.mark.parametrize("command", ["submit", "retry"])
    def test_submit_and_retry_submit_it_and_a_further_end_is_reported(self, exp: Exp, command: str) -> None:
        exp.slurm.refuse("a_epoch0.slurm", INVALID)
        submit(exp)
        all_over(exp)
        # Refused once more: nothing changes.
        assert evalmon(exp, command).returncode == 1
        assert verdicts(exp)["r1/a/epoch0"] == "refused"
        mend(exp, "a")
        done = evalmon(exp, command)
        assert (done.returncode, "submitted r1/a/epoch0" in done.stdout) == (0, True), done
        assert verdicts(exp)["r1/a/epoch0"] == "active"

    def test_two_refused_scripts_of_one_directory_get_different_directories_by_retry(self, exp: Exp) -> None:
        for name in "abc":
            exp.slurm.refuse(f"{name}_epoch0.slurm", INVALID)
        assert submit(exp).returncode == 1
        assert verdicts(exp) == dict.fromkeys(NAMES, "refused")
        assert len(exp.blocks("ALERT")) == 1
        for name in "abc":
            mend(exp, name)
        assert evalmon(exp, "retry").returncode == 0
        folders = [entry.submission.output_dir for entry in exp.anew().experiment.ledger.entries() if entry.accepted]
        assert len({folder for folder in folders if folder}) == 3

    def test_a_refused_array_counts_as_its_tasks_and_is_submitted_as_a_whole(self, exp: Exp) -> None:
        exp.write_script("a", "#SBATCH --array=0-2\n")
        exp.slurm.refuse("a_epoch0.slurm", INVALID)
        submit(exp)
        tasks = [f"r1/a/epoch0[{task}]" for task in range(3)]
        assert [name for name, verdict in verdicts(exp).items() if verdict == "refused"] == tasks
        mend(exp, "a")
        done = evalmon(exp, "retry", "--name", tasks[1])
        assert "skipped r1/a/epoch0[1]: Slurm refused its whole array: name the array" in done.stdout
        assert evalmon(exp, "drop", tasks[1]).returncode == 0
        done = evalmon(exp, "retry")
        assert f"skipped {tasks[0]}: tasks of its array were dropped; to bring all back" in done.stdout
        assert "submitted r1/a/epoch0 " in evalmon(exp, "submit", "r1/eval/a_epoch0.slurm").stdout

    def test_a_refused_array_is_submitted_again_as_a_whole(self, exp: Exp) -> None:
        exp.write_script("a", "#SBATCH --array=0-2\n")
        exp.slurm.refuse("a_epoch0.slurm", INVALID)
        submit(exp)
        mend(exp, "a")
        assert "submitted r1/a/epoch0 " in evalmon(exp, "retry", "--name", "r1/a/epoch0").stdout

    def test_a_refused_retry_keeps_the_attempts_and_the_verdict(self, exp: Exp) -> None:
        submit(exp)
        all_over(exp, "NODE_FAIL")
        exp.slurm.refuse("a_epoch0.slurm", INVALID)
        assert evalmon(exp, "retry", "--name", "r1/a/epoch0").returncode == 1
        done = evalmon(exp, "report")
        assert done.returncode == 1
        assert f"Slurm refused to run it again: {INVALID}" in done.stdout.replace("\\", "")
        [ev, *_] = json.loads((exp.ours / "summary.json").read_text())["evals"]
        assert (ev["verdict"], len(ev["attempts"]), ev["refusal"]) == ("failed", 1, INVALID)
        mend(exp, "a")
        assert evalmon(exp, "retry", "--name", "r1/a/epoch0").returncode == 0
        assert verdicts(exp)["r1/a/epoch0"] == "active"


class TestDrop:
    def test_a_dropped_eval_no_longer_counts_until_its_script_is_named_again(self, exp: Exp) -> None:
        submit(exp)
        all_over(exp, "NODE_FAIL")
        assert evalmon(exp, "status").returncode == 1
        done = evalmon(exp, "drop", "r1/*")
        assert (done.returncode, done.stdout) == (0, "".join(f"dropped {name}\n" for name in NAMES))
        assert evalmon(exp, "status").returncode == 0
        assert verdicts(exp) == dict.fromkeys(NAMES, "dropped")
        summary = json.loads((exp.ours / "summary.json").read_text())
        assert (summary["counts"], summary["verdicts"]["dropped"]) == ({}, 3)
        changes = exp.blocks("VERDICT_CHANGED")
        assert (len(changes), "Previous: failed\nCurrent: dropped" in changes[0]) == (3, True)
        assert "nothing to drop" in evalmon(exp, "drop", "r1/a/epoch0").stdout
        # Neither retry nor a submit of all scripts submits it.
        assert "nothing to run again" in evalmon(exp, "retry").stdout
        assert "skipped r1/a/epoch0: dropped; to bring it back" in evalmon(exp, "submit").stdout
        before = len(exp.slurm.accepted())
        done = evalmon(exp, "submit", "r1/eval/a_epoch0.slurm")
        assert (done.returncode, "submitted r1/a/epoch0" in done.stdout) == (0, True), done
        assert len(exp.slurm.accepted()) > before
        assert verdicts(exp) == {"r1/a/epoch0": "active", "r1/b/epoch0": "dropped", "r1/c/epoch0": "dropped"}
        all_over(exp)
        assert verdicts(exp) == {"r1/a/epoch0": "ok", "r1/b/epoch0": "dropped", "r1/c/epoch0": "dropped"}
        assert [block.split("\n")[1] for block in exp.blocks("ALL_COMPLETE")] == [
            "Summary: 3 evaluations completed - 0 COMPLETED, 0 FAILED, 3 NODE_FAIL",
            "Summary: 1 evaluation completed - 1 COMPLETED, 0 FAILED",
        ]
        assert evalmon(exp, "status").stdout.startswith("The eval succeeded; 2 dropped\n")
        # The verdict of the earlier job is no longer shown.
        assert len(exp.blocks("VERDICT_CHANGED")) == 3

    def test_drop_names_a_report_html_that_does_not_show_it_yet(self, exp: Exp) -> None:
        submit(exp)
        all_over(exp, "NODE_FAIL")
        assert "report.html" not in evalmon(exp, "drop", "r1/a/epoch0").stderr
        told = evalmon(exp, "report").stderr
        assert told.endswith(f"summary: {exp.ours}/summary.md\npage: {exp.ours}/report.html\n")
        note = f"note: report.html does not show this yet; to update it: evalmon report {exp.root}\n"
        assert evalmon(exp, "drop", "r1/b/epoch0").stderr.endswith(note)

    def test_an_active_or_unknown_eval_cannot_be_dropped(self, exp: Exp) -> None:
        submit(exp)
        done = evalmon(exp, "drop", "r1/a/epoch0")
        assert (done.returncode, done.stdout) == (2, "")
        assert "r1/a/epoch0 is PENDING; end it first: evalmon cancel" in done.stderr
        done = evalmon(exp, "drop", "r1/a/epoch0", "r9/*")
        assert (done.returncode, "no eval is called r9/*" in done.stderr) == (2, True)
        assert exp.anew().experiment.ledger.entries()[-1].dropped is None

    def test_a_refused_eval_can_be_dropped_and_submitted_again(self, exp: Exp) -> None:
        exp.slurm.refuse("a_epoch0.slurm", INVALID)
        submit(exp)
        all_over(exp)
        assert evalmon(exp, "drop", "r1/a/epoch0").returncode == 0
        assert (evalmon(exp, "status").returncode, verdicts(exp)["r1/a/epoch0"]) == (0, "dropped")
        mend(exp, "a")
        assert "skipped r1/a/epoch0: dropped" in evalmon(exp, "submit").stdout
        assert evalmon(exp, "submit", "r1/eval/a_epoch0.slurm").returncode == 0
        assert verdicts(exp)["r1/a/epoch0"] == "active"

    def test_only_the_dropped_tasks_of_an_array_are_submitted_again(self, exp: Exp) -> None:
        exp.write_script("a", "#SBATCH --array=0-2%2\n")
        submit(exp, "r1/eval/a_epoch0.slurm")
        [(job_id, _)] = [one for one in exp.slurm.accepted() if one[1].endswith(".slurm")]
        row = exp.slurm.directory / "queue" / job_id
        at = int(row.read_text().split("\x1f")[2])
        row.unlink()
        exp.slurm.show([ended(f"{job_id}_{n}", "FAILED", submitted=at, started=at, ended=at + 1) for n in range(3)])
        exp.anew().observe_to_the_end()
        assert evalmon(exp, "drop", "r1/a/epoch0[1]").returncode == 0
        done = evalmon(exp, "submit", "r1/eval/a_epoch0.slurm")
        assert done.returncode == 0, done
        assert "--array=1%2" in [call for call in exp.slurm.calls("sbatch") if "a_epoch0" in call][-1]
        assert verdicts(exp) == {
            "r1/a/epoch0[0]": "failed",
            "r1/a/epoch0[1]": "active",
            "r1/a/epoch0[2]": "failed",
        }


class TestCancel:
    def test_cancel_takes_names_and_needs_yes_without_a_terminal(self, exp: Exp) -> None:
        submit(exp)
        done = evalmon(exp, "cancel", "r1/a/epoch0")
        assert (done.returncode, "--yes" in done.stderr, exp.slurm.calls("scancel")) == (2, True, [])
        done = evalmon(exp, "cancel", "r1/a/epoch0", "r1/c/*", "--yes")
        assert (done.returncode, done.stdout.splitlines()) == (
            0,
            ["cancelled r1/a/epoch0  job 1001", "cancelled r1/c/epoch0  job 1003"],
        )
        assert exp.slurm.calls("scancel") == ["scancel -Q 1001 1003"]
        assert evalmon(exp, "cancel", "nobody", "--yes").returncode == 2

    def test_the_question_lists_what_would_be_cancelled_and_no_cancels_nothing(self, exp: Exp) -> None:
        submit(exp)
        for answer, calls in ((b"n\n", []), (b"y\n", ["scancel -Q 1001"])):
            master, slave = pty.openpty()
            os.write(master, answer)
            done = evalmon(exp, "cancel", "r1/a/epoch0", stdin=slave)
            os.close(slave)
            os.close(master)
            assert done.returncode == 0
            assert done.stdout.startswith("would cancel r1/a/epoch0  job 1001\n"), done
            assert exp.slurm.calls("scancel") == calls

    def test_evals_submitted_during_the_question_are_not_cancelled(self, exp: Exp) -> None:
        submit(exp, "r1/eval/a_epoch0.slurm")
        ended = cancel(exp.anew().session(), ["r1/*"], confirm=lambda _: submit(exp).returncode == 0)
        assert ended is not None
        assert ([name for name, _ in ended.jobs], ended.waiting) == (["r1/a/epoch0"], [])
        assert exp.slurm.calls("scancel")[-1] == "scancel -Q 1001"

    @pytest.mark.parametrize("command", ["/home/me/another.sh", "(null)"])
    @pytest.mark.parametrize("is_adopted", [False, True])
    def test_a_later_job_with_the_same_id_is_not_cancelled(self, exp: Exp, command: str, is_adopted: bool) -> None:
        if is_adopted:
            exp.slurm.show([running("11")])
            assert evalmon(exp, "watch", "r1/a=11").returncode == 0
        else:
            exp.register(r1_a="11")
        exp.slurm.show([ended("11")])
        exp.anew().observe_to_the_end()
        exp.slurm.show([running("11", command=command, submitted=1_800_000_000)])
        done = evalmon(exp, "cancel", "r1/a", "--yes")
        assert (done.returncode, done.stdout[:17], exp.slurm.calls("scancel")) == (0, "nothing to cancel", [])

    def test_a_waiting_eval_is_withdrawn_and_never_submitted(self, exp: Exp) -> None:
        (exp.root / "evalmon.yaml").write_text('{"poll_interval": 1, "max_submit": 1}')
        submit(exp)
        done = evalmon(exp, "cancel", "r1/b/epoch0", "--yes")
        assert done.stdout == "not submitted any more: r1/b/epoch0\n"
        assert verdicts(exp) == {"r1/a/epoch0": "active", "r1/c/epoch0": "active", "r1/b/epoch0": "dropped"}
        all_over(exp)
        done = evalmon(exp, "submit")
        assert "submitted r1/c/epoch0" in done.stdout
        assert "skipped r1/b/epoch0: dropped" in done.stdout

    def test_a_withdrawn_retry_keeps_the_verdict(self, exp: Exp) -> None:
        submit(exp)
        all_over(exp, "NODE_FAIL")
        (exp.root / "evalmon.yaml").write_text('{"poll_interval": 1, "max_submit": 1}')
        evalmon(exp, "retry")
        assert evalmon(exp, "cancel", "r1/c/epoch0", "--yes").stdout == "not submitted any more: r1/c/epoch0\n"
        assert verdicts(exp) == {"r1/a/epoch0": "active", "r1/b/epoch0": "active", "r1/c/epoch0": "failed"}


OUTPUT = "#SBATCH --output=%j.out\n#SBATCH --error=%j.err\n"


class TestLogs:
    def test_logs_prints_the_end_of_the_output_and_then_of_the_errors(self, exp: Exp) -> None:
        path = exp.write_script("a", OUTPUT)
        submit(exp, str(path))
        done = evalmon(exp, "logs", "r1/a/epoch0")
        out, err = path.parent / "1001.out", path.parent / "1001.err"
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.splitlines() == [
            str(out),
            str(err),
            f"evalmon: r1/a/epoch0: nothing in {out} or {err} (PENDING)",
        ]
        out.write_bytes(b"".join(b"line %d \x1b[31m\xff\n" % number for number in range(200)))
        err.write_text("an error\n")
        done = evalmon(exp, "logs", "r1/a/epoch0", "--lines", "2", text=False)
        # Output to a pipe is unchanged.
        assert (done.returncode, done.stdout) == (
            0,
            b"line 198 \x1b[31m\xff\nline 199 \x1b[31m\xff\nan error\n",
        )
        assert len(evalmon(exp, "logs", "r1/a*", text=False).stdout.splitlines()) == 51

    @pytest.mark.survives("S4")
    def test_control_sequences_of_a_job_do_not_reach_the_terminal(self, exp: Exp) -> None:
        path = exp.write_script("a", OUTPUT)
        submit(exp, str(path))
        (path.parent / "1001.out").write_bytes(
            b"\x1b[31mred\x1b[0m\tx \x1b]0;title\x07 \x07bell \xe2\x80\xae\n10%\r20%\n"
        )
        master, slave = pty.openpty()
        evalmon(exp, "logs", "r1/a/epoch0", stdout=slave, stderr=subprocess.PIPE, capture_output=False)
        os.close(slave)
        shown = os.read(master, 4096)
        os.close(master)
        assert shown == b"red     x  \\x07bell \\u202e\r\n10%\r\n20%\r\n"

    @pytest.mark.survives("S18")
    def test_a_file_behind_another_users_link_is_not_shown(self, exp: Exp, tmp_path: Path) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root to make another user's link")
        path = exp.write_script("a", OUTPUT)
        submit(exp, str(path))
        (tmp_path / "secret").write_text("secret\n")
        link = path.parent / "1001.out"
        link.symlink_to(tmp_path / "secret")
        os.chown(link, 12345, 12345, follow_symlinks=False)
        done = evalmon(exp, "logs", "r1/a/epoch0")
        assert (done.returncode, done.stdout) == (1, "")

    def test_the_error_option_shows_only_the_lines_of_the_diagnosis(self, exp: Exp) -> None:
        path = exp.write_script("a", OUTPUT)
        submit(exp, str(path))
        assert evalmon(exp, "logs", "r1/a/epoch0", "--error").returncode == 1
        error = "ModuleNotFoundError: No module named 'vllm'"
        (path.parent / "1001.err").write_text(
            f'loading\nTraceback (most recent call last):\n  File "x.py", line 1, in <module>\n{error}\n'
        )
        all_over(exp, "FAILED")
        done = evalmon(exp, "logs", "r1/a/epoch0", "--error")
        assert (done.returncode, done.stdout) == (0, f"{error}\n")

    def test_a_name_that_matches_several_evals_is_refused(self, exp: Exp) -> None:
        submit(exp)
        done = evalmon(exp, "logs", "r1/*")
        assert (done.returncode, "r1/* means 3 evals" in done.stderr) == (2, True)
        assert evalmon(exp, "logs", "nobody").returncode == 2

    def test_an_eval_that_was_never_submitted_shows_slurms_message_only(self, exp: Exp) -> None:
        exp.slurm.refuse("a_epoch0.slurm", INVALID)
        submit(exp)
        assert "never submitted" in evalmon(exp, "logs", "r1/a/epoch0").stderr
        assert evalmon(exp, "logs", "r1/a/epoch0", "--error").stdout == f"{INVALID}\n"

    def test_following_shows_new_output_and_ends_with_the_eval(self, exp: Exp) -> None:
        path = exp.write_script("a", OUTPUT)
        submit(exp, str(path))
        out = path.parent / "1001.out"
        words = [sys.executable, "-m", "evalmon_agent", "logs", str(exp.root), "r1/a/epoch0", "--follow"]
        with subprocess.Popen(words, env=exp.slurm.environ, stdout=subprocess.PIPE, text=True) as following:
            assert following.stdout is not None
            time.sleep(1)
            out.write_text("first\nhalf")
            assert following.stdout.readline() == "first\n"
            with out.open("a") as file:
                file.write(" a line\nlast")
            assert following.stdout.readline() == "half a line\n"
            all_over(exp)
            assert (following.stdout.read(), following.wait(60)) == ("last", 0)


def test_evals_whose_request_no_node_can_satisfy_are_shown_until_they_are_over(exp: Exp) -> None:
    (exp.root / "evalmon.yaml").write_text('{"poll_interval": 0.2, "seff_retry_delay": 0}')
    exp.settings = Settings(poll_interval=0.2, seff_retry_delay=0)
    exp.register(r1_a="11", r1_b="12")
    jobs = [pending("11", reason="BadConstraints"), pending("12", reason="BadConstraints")]
    exp.slurm.show(jobs)
    for _ in range(7):
        exp.observer().observe_once(at_least_s=0)
        time.sleep(0.2)
    needs = "2 evals wait: BadConstraints"
    assert f"* {needs}\n  No node can give what it asks for" in evalmon(exp, "status").stdout
    done = evalmon(exp, "report")
    assert f"## Needs attention\n\n* **{needs}**\n  * No node can give what it asks for" in done.stdout
    summary = json.loads(evalmon(exp, "status", "--json").stdout)
    assert [(a["kind"], a["name"], a["cleared_at"]) for a in summary["alerts"]] == [
        ("waits", "r1/a", None),
        ("waits", "r1/b", None),
    ]
    exp.slurm.show([running("11"), running("12")])
    exp.anew().observer().observe_once(at_least_s=0)
    assert "BadConstraints" not in evalmon(exp, "status").stdout
    alerts = json.loads(evalmon(exp, "status", "--json").stdout)["alerts"]
    assert [a["cleared_at"] > a["at"] for a in alerts if a["kind"] == "waits"] == [True, True]
