"""Tests the dry run: Slurm is asked whether it would accept each kind of job; nothing is written or submitted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from evalmon_agent.commands.submit import submit
from evalmon_agent.settings import Settings
from evalmon_agent.submission.launcher import script_in
from evalmon_agent.submitting import preview
from evalmon_agent.submitting.submit_evals import SubmitReport, Totals
from experiments import Exp
from fake_slurm import US, Job

REFUSAL = "allocation failure: Requested node configuration is not available"


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    return Exp(tmp_path)


def script(exp: Exp, name: str, *options: str) -> Path:
    path = exp.root / "r1" / "eval" / f"{name}_epoch0.slurm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/bash\n" + "".join(f"#SBATCH {option}\n" for option in options) + "true\n")
    return path


def dry_run(
    exp: Exp, *, mode: str = "sidecar", env: Mapping[str, str] | None = None, **settings: object
) -> SubmitReport:
    environ = {**exp.slurm.environ, **(env or {})}
    chosen = Settings(**settings)  # type: ignore[arg-type]
    report = submit(exp.session(chosen, environ=environ), named=(), mode=mode, dry_run=True)  # type: ignore[arg-type]
    assert (exp.slurm.accepted(), exp.ours.exists()) == ([], False)
    return report


def asked(exp: Exp) -> list[str]:
    return [call for call in exp.slurm.calls("sbatch") if "--test-only" in call.split(" ")]


def test_a_script_that_slurm_would_refuse_is_reported_in_its_words_and_not_counted(exp: Exp) -> None:
    script(exp, "good", "--gres=gpu:2", "--time=60")
    bad = script(exp, "bad", "--gres=gpu:99", "--time=60")
    exp.slurm.refuse("bad_epoch0.slurm", REFUSAL)
    report = dry_run(exp)
    assert [one["name"] for one in report.submitted] == ["r1/good/epoch0"]
    assert report.refused == [{"name": "r1/bad/epoch0", "script": str(bad), "error": REFUSAL}]
    assert (report.exit_status, report.totals) == (1, Totals(1, 2, 2.0, 0))


def test_slurm_is_asked_with_the_launcher_and_options_of_a_submission(exp: Exp) -> None:
    path = script(exp, "a", "--gres=gpu:1")
    dry_run(exp)
    [call] = asked(exp)
    before, _, at = call.rpartition(" ")
    assert (before, Path(at).name, Path(at).exists()) == ("sbatch --parsable --test-only --", path.name, False)
    assert script_in((exp.slurm.directory / "last.script").read_bytes()) == path.read_bytes()


def test_scripts_with_equal_options_are_checked_once(exp: Exp) -> None:
    for number in range(20):
        script(exp, f"t{number}", f"--job-name=j{number}", f"--output=o{number}", f"--mem={number % 2 + 1}G")
    report = dry_run(exp)
    assert (len(asked(exp)), len(report.submitted), report.warnings) == (2, 20, [])


def test_only_some_of_very_many_different_scripts_are_checked_and_that_is_reported(
    exp: Exp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preview, "MOST_ASKED", 3)
    for number in range(5):
        script(exp, f"t{number}", f"--mem={number + 1}G")
    report = dry_run(exp)
    assert (len(asked(exp)), len(report.submitted), report.exit_status) == (3, 5, 0)
    assert report.warnings == [
        "2 of 5 scripts were not checked by sbatch --test-only: only 3 different sets of options are tried"
    ]


@pytest.mark.parametrize(
    "words",
    ["sbatch: error: Unable to contact slurm controller (connect failure)", "wrapper: no such option: --test-only"],
)
def test_without_slurms_answer_nothing_is_called_refused(exp: Exp, words: str) -> None:
    for name in ("a", "b"):
        script(exp, name, f"--comment={name}", f"--mem={ord(name)}")
        exp.slurm.refuse(f"{name}_epoch0.slurm", words)
    report = dry_run(exp)
    assert (len(report.submitted), report.refused, report.exit_status, len(asked(exp))) == (2, [], 0, 1)
    assert report.warnings == [f"2 of 2 scripts were not checked by sbatch --test-only: {words}"]


@pytest.mark.parametrize(
    ("sbatch", "job"),
    [("echo Submitted batch job 77; exit 0", "77"), ('set -- --parsable -- "$4"', "1001")],
)
def test_a_job_submitted_by_mistake_is_cancelled(exp: Exp, sbatch: str, job: str) -> None:
    script(exp, "a")
    exp.slurm.show([Job("77")])
    exp.slurm.before("sbatch", f'case "$*" in *--test-only*) {sbatch} ;; esac\n')
    report = submit(exp.session(Settings()), named=(), mode="sidecar", dry_run=True)
    assert exp.slurm.calls("scancel") == [f"scancel -Q {job}"]
    assert f"job {job} is cancelled" in report.warnings[0]


def test_a_number_printed_by_a_sites_wrapper_cancels_no_job(exp: Exp) -> None:
    script(exp, "a")
    exp.slurm.show([Job("77")])
    exp.slurm.before("sbatch", "echo 77\n")
    report = dry_run(exp)
    assert (exp.slurm.calls("scancel"), len(report.submitted)) == ([], 1)
    assert report.warnings[0].endswith("despite --test-only; if job 77 is this script's, cancel it")


def test_a_sites_job_limit_is_no_refusal(exp: Exp) -> None:
    script(exp, "a")
    exp.slurm.refuse("a_epoch0.slurm", "allocation failure: QOSMaxSubmitJobPerUserLimit")
    report = dry_run(exp)
    assert (report.refused, report.exit_status) == ([], 0)
    assert report.submitted[0]["why"] == "when there is room: allocation failure: QOSMaxSubmitJobPerUserLimit"


def test_a_time_limit_above_the_partitions_is_a_warning_if_slurm_accepts_it(exp: Exp) -> None:
    exp.slurm.answer("sinfo", f"main*{US}10:00{US}NO{US}n/a\n")
    paths = [script(exp, name, "--time=30") for name in "ab"]
    script(exp, "c", "--time=10")
    warning = (
        f"{paths[0]} and 1 more: asks for 00:30:00, and the default partition gives 00:10:00: it would wait for ever"
    )
    assert dry_run(exp).warnings == [warning]


def test_gpu_hours_include_tasks_and_default_limits_and_unknown_ones_are_separate(exp: Exp) -> None:
    rows = (("main*", "1-00:00:00", "NO", "2:00:00"), ("endless", "infinite", "NO", "n/a"))
    exp.slurm.answer("sinfo", "".join(US.join(row) + "\n" for row in rows))
    script(exp, "array", "--array=0-9", "--gres=gpu:1", "--time=30")
    script(exp, "default", "--gpus=4")
    script(exp, "no_gpu", "--partition=endless")
    assert dry_run(exp).totals == Totals(12, 2, 5.0 + 8.0, 0)
    script(exp, "no_limit", "--partition=endless", "--gpus=1", "--array=1-3")
    assert dry_run(exp).totals == Totals(15, 2, 13.0, 3)
    assert dry_run(exp, env={"SBATCH_TIMELIMIT": "UNLIMITED", "SBATCH_GPUS": "1"}).totals == Totals(15, 2, None, 15)


def test_the_listed_monitor_jobs_are_those_that_would_be_submitted(exp: Exp) -> None:
    def count(**more: object) -> int:
        totals = dry_run(exp, **more).totals  # type: ignore[arg-type]
        assert totals is not None
        return totals.monitor_jobs

    path = script(exp, "a")
    assert (count(), count(mode="dependency")) == (2, 1)
    exp.slurm.answer("sinfo", f"main*{US}1-00:00:00{US}EXCLUSIVE{US}n/a\n")
    assert count() == 1
    exp.slurm.refuse(path.name, REFUSAL)
    assert count() == 0
