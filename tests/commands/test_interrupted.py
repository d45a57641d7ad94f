"""Tests that Ctrl-C at any time prints one line on what is done and what to do next, and nothing is done twice."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from collect.test_foreign import table
from evalmon_agent.tracking.registry import Accepted, Intent, Submission
from evalmon_agent.words.job_id import JobId
from experiments import STARTED, Exp, ended, running
from submitting.test_retry_evals import new as failed
from terminal import HIDE_CURSOR, SHOW_CURSOR, Terminal

COUNT = 14


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    made = Exp(tmp_path)
    for number in range(COUNT):
        made.write_script(f"t{number:02}")
    return made


def interrupted(exp: Exp, *words: str, when: object, times: int = 1) -> str:
    """The output after Ctrl-C, sent once `when` returns True; a program that waits continues then."""
    terminal = Terminal(words, env=exp.slurm.environ, cwd=exp.root)
    assert terminal.shows(when), terminal.text  # type: ignore[arg-type]
    for _ in range(times):
        time.sleep(0.3 if times == 1 else 1.5)  # a question is shown before its answer is read
        terminal.press_ctrl_c()
    time.sleep(0.3)
    (exp.slurm.directory / "go").touch()
    assert terminal.end() == 130, terminal.text
    assert "Traceback" not in terminal.text
    assert terminal.text.rfind(SHOW_CURSOR) >= terminal.text.rfind(HIDE_CURSOR)  # of a progress bar
    said = [line for line in terminal.lines if line.startswith("evalmon: ")]
    assert len(said) == 1
    assert terminal.lines[-1] == said[0]
    return said[0].removeprefix("evalmon: interrupted: ")


def waits_at(exp: Exp, script: str) -> Callable[[], bool]:
    """sbatch waits with this script; returns whether it does."""

    def calls() -> int:
        return sum(script in call for call in exp.slurm.calls("sbatch"))

    exp.slurm.before("sbatch", f'case "$*" in *{script}*) while [ ! -e "$dir/go" ]; do sleep 0.1; done ;; esac\n')
    before = calls()
    return lambda: calls() > before


def run(exp: Exp, *words: str) -> tuple[int, str]:
    terminal = Terminal(words, env=exp.slurm.environ, cwd=exp.root)
    status = terminal.end(within_s=120)
    return status, terminal.text


def submitted(exp: Exp) -> Counter[str]:
    return Counter(script for _, script in exp.slurm.accepted())


def evals(exp: Exp) -> Counter[str]:
    return Counter({script: count for script, count in submitted(exp).items() if script.endswith(".slurm")})


def is_all_submitted_once(exp: Exp) -> bool:
    scripts = submitted(exp)
    return len(evals(exp)) == COUNT and set(scripts.values()) == {1} and scripts.keys() >= {"evalmon-completion"}


@pytest.mark.parametrize("before", ["squeue", "sbatch"])
def test_before_the_first_eval_nothing_is_submitted(exp: Exp, before: str) -> None:
    exp.slurm.before(before, "sleep 3\n")
    words = ["submit", "."] + ["--dry-run"] * (before == "sbatch")
    assert interrupted(exp, *words, when=lambda: bool(exp.slurm.calls(before))) == "nothing was submitted"
    assert submitted(exp) == Counter()
    exp.slurm.mend(before)
    status, text = run(exp, "submit", ".")
    assert (status, is_all_submitted_once(exp)) == (0, True), text


@pytest.mark.parametrize("settings", ["", "max_submit: 100\n"])
@pytest.mark.parametrize("after", [1, 5, 12])
def test_an_interrupted_submit_says_how_many_are_submitted_and_the_next_submits_the_others(
    exp: Exp, after: int, settings: str
) -> None:
    (exp.root / "evalmon.yaml").write_text(settings)
    said = interrupted(exp, "submit", ".", when=waits_at(exp, f"t{after:02}_"))
    count = after + 1  # the one in sbatch is put on record first
    assert evals(exp).total() == count
    waits = f", {COUNT - count} wait to be submitted" if settings else ""
    assert said == f"{count} of {COUNT} evals submitted{waits}; run the same command again to submit the rest"
    exp.slurm.mend("sbatch")
    status, text = run(exp, "submit", ".")
    assert (status, is_all_submitted_once(exp)) == (0, True), text
    assert exp.slurm.calls("sacct") == []  # it need not look for an unknown job


def test_an_interrupted_submit_counts_the_evals_that_waited_already(exp: Exp) -> None:
    (exp.root / "evalmon.yaml").write_text("max_submit: 4\n")
    assert run(exp, "submit", ".")[0] == 0
    assert evals(exp).total() == 4
    (exp.root / "evalmon.yaml").write_text("max_submit: 100\n")
    said = interrupted(exp, "submit", ".", when=waits_at(exp, "t06_"))
    left = COUNT - 4
    waits = f"{left - 3} wait to be submitted"
    assert said == f"3 of {left} evals submitted, {waits}; run the same command again to submit the rest"
    exp.slurm.mend("sbatch")
    assert run(exp, "submit", ".")[0] == 0
    assert (len(evals(exp)), set(evals(exp).values())) == (COUNT, {1})


def test_after_the_last_eval_the_monitor_jobs_are_named(exp: Exp) -> None:
    said = interrupted(exp, "submit", ".", when=waits_at(exp, "evalmon-completion"))
    assert said == f"{COUNT} evals submitted; run the same command again for the monitor jobs"
    exp.slurm.mend("sbatch")
    assert run(exp, "submit", ".")[0] == 0
    assert is_all_submitted_once(exp)
    assert submitted(exp)["evalmon-sidecar"] == 1


def test_a_second_ctrl_c_ends_a_hanging_sbatch_and_that_eval_is_found_again(exp: Exp) -> None:
    exp.slurm.after("sbatch", 'case "$*" in *t03_*) sleep 30 ;; esac\n')
    said = interrupted(
        exp, "submit", ".", when=lambda: any("t03_" in call for call in exp.slurm.calls("sbatch")), times=2
    )
    assert (
        said
        == f"3 of {COUNT} evals submitted, perhaps also r1/t03/epoch0; run the same command again to submit the rest"
    )
    exp.slurm.mend("sbatch")
    status, text = run(exp, "submit", ".")
    assert (status, is_all_submitted_once(exp)) == (0, True), text


def test_an_interrupted_retry_says_so_and_the_next_one_resubmits_the_others(tmp_path: Path) -> None:
    exp = failed(tmp_path, **{f"t{number:02}": "FAILED" for number in range(COUNT)})
    said = interrupted(exp, "retry", ".", when=waits_at(exp, "t04_"))
    count = evals(exp).total()
    assert count == 5
    assert said == f"{count} of {COUNT} evals submitted; run the same command again to submit the rest"
    exp.slurm.mend("sbatch")
    status, text = run(exp, "retry", ".")
    assert status == 0, text
    assert evals(exp) == Counter(f"t{number:02}_epoch0.slurm" for number in range(COUNT))


def test_an_interrupted_watch_adopts_a_job_or_not_and_can_be_repeated(exp: Exp) -> None:
    exp.slurm.show([running("11", work_dir=str(exp.root))])
    exp.slurm.before("sacct", "sleep 3\n")
    assert interrupted(exp, "watch", ".", "r=11", when=lambda: bool(exp.slurm.calls("sacct"))) == "nothing was adopted"
    exp.slurm.mend("sacct")
    exp.slurm.before("sbatch", "sleep 2\n")
    said = interrupted(exp, "watch", ".", "r=11", when=lambda: bool(exp.slurm.calls("sbatch")))
    assert said == "the jobs are adopted; run the same command again for the monitor jobs"
    exp.slurm.mend("sbatch")
    assert run(exp, "watch", ".", "r=11")[0] == 0
    assert submitted(exp) == {"evalmon-completion": 1, "evalmon-sidecar": 1}


def test_an_interrupted_report_keeps_the_old_one_and_can_be_repeated(exp: Exp) -> None:
    exp.register(r1_a="11")
    exp.slurm.show([ended("11")])
    assert run(exp, "report", ".")[0] == 0
    before = (exp.ours / "summary.json").read_bytes()
    exp.accept("r1/b", "12")
    exp.slurm.show([ended("11"), ended("12")])
    (exp.ours / "observer.json").unlink()
    exp.slurm.before("seff", "sleep 5\n")
    said = interrupted(exp, "report", ".", when=lambda: any("12" in call for call in exp.slurm.calls("seff")))
    assert said == "the summary is as it was; run evalmon report again"
    assert (exp.ours / "summary.json").read_bytes() == before
    exp.slurm.mend("seff")
    assert run(exp, "report", ".")[0] == 0
    assert len(json.loads((exp.ours / "summary.json").read_bytes())["evals"]) == 2
    assert exp.temporaries() == []


def test_while_the_page_is_drawn_the_summary_is_written_already(exp: Exp) -> None:
    pytest.importorskip("vl_convert")
    exp.experiment.prepare(group_readable=False)
    jobs = [str(number) for number in range(11, 71)]  # so many that drawing takes seconds
    for job_id in jobs:
        output = exp.root / job_id
        output.mkdir()
        (output / "gpu_metrics.csv").write_bytes(table(STARTED + 5) + table(STARTED + 65))
        submission = Submission(f"r1/{job_id}", str(output / "a.slurm"), str(output), token=job_id * 8)
        exp.experiment.ledger.append(Intent(submission, STARTED - 90, "host", 1))
        exp.experiment.ledger.append(Accepted(submission.token, JobId(job_id), STARTED - 60))
    exp.slurm.show([ended(job_id) for job_id in jobs])
    said = interrupted(exp, "report", ".", when="Drawing report.html")
    assert said == "summary.md is written, report.html is not; run evalmon report again"
    assert (exp.ours / "summary.md").exists()
    assert not (exp.ours / "report.html").exists()
    assert run(exp, "report", ".")[0] == 0
    assert "<svg" in (exp.ours / "report.html").read_text()
    assert exp.temporaries() == []


@pytest.mark.parametrize(
    ("words", "program", "said"),
    [
        (["metrics", "11"], "seff", "no figures were shown; run it again, with fewer jobs if Slurm is slow"),
        (["doctor", "."], "squeue", "the checks did not finish, and nothing was changed"),
        (["cancel", ".", "r1/a"], "squeue", "nothing was cancelled"),
        (
            ["cancel", ".", "r1/a", "--yes"],
            "scancel",
            "some may be cancelled; run the same command again to cancel the rest",
        ),
        (["stop", "."], "scancel", "the monitoring may go on; run evalmon stop again"),
    ],
)
def test_other_long_commands_say_what_is_done(exp: Exp, words: list[str], program: str, said: str) -> None:
    exp.register(r1_a="11", r1_b="12")
    exp.accept("", "70", what="completion")
    jobs = [ended("11")] if program == "seff" else [running("11"), running("12")]
    exp.slurm.show(jobs)
    exp.slurm.before(program, "sleep 5\n")
    assert interrupted(exp, *words, when=lambda: bool(exp.slurm.calls(program))) == said


def test_an_interrupted_question_counts_as_no_and_following_ends(exp: Exp) -> None:
    exp.register(r1_a="11")
    exp.slurm.show([running("11")])
    assert interrupted(exp, "cancel", ".", "r1/a", when="Cancel? [y/N]") == "nothing was cancelled"
    assert exp.slurm.calls("scancel") == []
    (exp.root / "r1" / "slurm-11.out").write_text("one\n")
    said = interrupted(exp, "logs", ".", "r1/a", "--follow", when="one")
    assert said == "no longer following; the eval keeps running"


def test_an_interrupt_during_the_start_is_handled(exp: Exp) -> None:
    terminal = Terminal(["status", "."], env={**exp.slurm.environ, "PYTHONVERBOSE": "1"}, cwd=exp.root)
    assert terminal.shows("import 'evalmon_agent.cli'") or terminal.shows("evalmon_agent/cli")
    terminal.press_ctrl_c()
    assert terminal.end() == 130
    assert "Traceback" not in terminal.text
