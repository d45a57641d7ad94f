"""Tests `evalmon watch` as a user runs it, with answers that a real Slurm cannot be made to give."""

from __future__ import annotations

import getpass
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import Exp, ended, pending, running
from fake_slurm import Job

ME = getpass.getuser()
NAMES_OF_TASKS = {"a[0]": "11_0", "a[1]": "11_1", "a[2]": "11_2", "b[1]": "12_1"}


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    found = Exp(tmp_path)
    (found.root / "evalmon.yaml").write_text('{"poll_interval": 1}')
    return found


def watch(exp: Exp, *words: str) -> subprocess.CompletedProcess[str]:
    return exp.evalmon("watch", ".", *words)


def script(exp: Exp, name: str) -> str:
    path = exp.root / "r1" / "eval" / f"{name}_epoch0" / "cell.slurm"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n#SBATCH --time=5\ntrue\n")
    return str(path)


def test_running_and_pending_jobs_become_evals_and_monitor_jobs_start(exp: Exp) -> None:
    path = script(exp, "a")
    jobs = [running("11", command=f"{path} --seed 3", work_dir=os.path.dirname(path)), pending("12", name="second")]
    exp.slurm.show(jobs)
    done = watch(exp, "11", "12")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:5] == [
        "watching r1/a/epoch0  job 11 (RUNNING)",
        "watching second  job 12 (PENDING)",
        "note: these jobs do not run evalmon; only Slurm's records and output files can be used",
        "completion job: submitted job 1001 (after 2 jobs)",
        "sidecar: submitted job 1002",
    ]
    submitted = exp.slurm.calls("sbatch")
    assert "--dependency=afterany:11:12" in submitted[0]
    for call in submitted:
        assert "--partition=gpu --account=lab --qos=normal" in call
    evals = exp.state()["evals"]
    assert {name: ev["state"] for name, ev in evals.items()} == {"r1/a/epoch0": "RUNNING", "second": "PENDING"}
    assert evals["r1/a/epoch0"]["output_dir"] == os.path.dirname(path)
    assert evals["r1/a/epoch0"]["jobs"][0].get("token") is None


def test_a_second_watch_changes_nothing(exp: Exp) -> None:
    exp.slurm.show([running("11")])
    watch(exp, "a=11")
    before = exp.slurm.accepted(), Path(exp.experiment.registry).read_bytes()
    done = watch(exp, "a=11", "--match", "ce*")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "skipped a  job 11: already registered")
    assert before == (exp.slurm.accepted(), Path(exp.experiment.registry).read_bytes())


def test_another_name_for_a_job_that_is_an_eval_already_is_refused(exp: Exp) -> None:
    exp.slurm.show([running("11"), running("12"), running("13_1")])
    watch(exp, "a=11", "x=13")
    done = watch(exp, "b=11", "c=12", "x=13", "y=13_1")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            "evalmon: 13_1: two names are given, x and y; give one",
            "evalmon: 11: it is the eval a already, and an eval keeps its name; leave out b=",
        ],
    )
    assert sorted(exp.state()["evals"]) == ["a", "c", "x[1]"]
    done = watch(exp, "y=13", "11", "--json")
    report = json.loads(done.stdout)
    assert [one["name"] for one in report["skipped"]] == ["a"]
    why = "it is the eval x[1] already, and an eval keeps its name; leave out y="
    assert report["refused"] == [{"job_id": "13_1", "error": why}]


def test_a_name_given_for_a_job_listed_twice_counts_in_either_order(exp: Exp) -> None:
    exp.slurm.show([running("11"), running("12")])
    assert watch(exp, "11", "a=11", "b=12", "12").returncode == 0
    assert list(exp.state()["evals"]) == ["a", "b"]


def test_two_names_for_one_job_are_refused(exp: Exp) -> None:
    exp.slurm.show([running("7")])
    done = watch(exp, "A=7", "B=7")
    assert (done.returncode, done.stderr) == (1, "evalmon: 7: two names are given, A and B; give one\n")


def test_ended_jobs_are_summarised_at_once(exp: Exp) -> None:
    exp.slurm.show([ended("11", user=ME), ended("12", "FAILED", exit_code="3:0", user=ME)])
    done = watch(exp, "a=11", "b=12")
    assert done.returncode == 0
    assert "completion job: not needed (no eval is active)" in done.stdout
    summary = json.loads((exp.ours / "summary.json").read_text())
    assert (summary["complete"], summary["counts"]) == (True, {"COMPLETED": 1, "FAILED": 1})
    assert [ev["witnesses"]["self"] for ev in summary["evals"]] == [None, None]
    assert len(exp.blocks("ALL_COMPLETE")) == 1


def test_missing_jobs_are_reported_and_the_others_are_watched(exp: Exp) -> None:
    exp.slurm.show([running("11"), ended("13", user="somebody")])
    done = watch(exp, "a=11", "12", "13", "--match", "nothing*")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "evalmon: 12: Slurm knows no such job of yours",
        "evalmon: 13: a job of somebody's; only your own can be watched",
        "evalmon: nothing*: none of your queued or running jobs has a matching name",
    ]
    assert list(exp.state()["evals"]) == ["a"]


def test_without_accounting_queued_jobs_are_watched_and_the_reason_is_given_for_the_others(exp: Exp) -> None:
    exp.slurm.show([running("11")])
    exp.slurm.fail("sacct", "sacct: error: Slurm accounting storage is disabled")
    done = watch(exp, "a=11", "12")
    assert done.returncode == 1
    assert done.stderr.startswith("evalmon: 12: no job of yours in the queue, and accounting does not answer (")
    assert list(exp.state()["evals"]) == ["a"]


def test_of_many_jobs_without_accounting_the_directory_is_known(exp: Exp) -> None:
    folders = {str(number): str(exp.root / f"d{number}") for number in range(101, 251)}
    exp.slurm.show([running(number, work_dir=folder) for number, folder in folders.items()])
    exp.slurm.fail("sacct", "sacct: error: Slurm accounting storage is disabled")
    assert watch(exp, *(f"e{number}={number}" for number in folders)).returncode == 0
    found = {ev["job_id"]: ev["output_dir"] for ev in exp.state()["evals"].values()}
    assert found == folders
    assert len(exp.slurm.calls("scontrol")) < 110


@pytest.mark.survives("S6")
@pytest.mark.parametrize("word", ["1;rm", "../x", "123.0", "$(touch canary)", "a=", "--all"])
def test_an_invalid_id_is_refused_before_any_process_starts(exp: Exp, word: str) -> None:
    done = watch(exp, "11", word)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert exp.slurm.calls() == []
    assert not exp.ours.exists()


def test_without_any_id_watch_says_what_to_give(exp: Exp) -> None:
    done = watch(exp)
    assert (done.returncode, "ids, or --match PATTERN" in done.stderr) == (2, True)


def test_two_evals_with_one_name_are_refused_and_nothing_is_created(exp: Exp) -> None:
    exp.slurm.show([running("11"), running("12")])
    done = watch(exp, "a=11", "a=12")
    assert (done.returncode, done.stderr) == (2, "evalmon: jobs 11 and 12 would all be called a; name them: NAME=11\n")
    assert not exp.ours.exists()


def test_a_dry_run_prints_the_plan_and_creates_nothing(exp: Exp) -> None:
    exp.slurm.show([running("11", name="eval_x"), pending("12", name="other")])
    done = watch(exp, "--match", "eval_*", "--dry-run", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert report["watched"] == [{"name": "eval_x", "job_id": "11", "state": "RUNNING"}]
    assert (report["skipped"], report["completion"]) == ([], None)
    assert not exp.ours.exists()
    assert exp.slurm.calls("sbatch") == []


def test_an_array_is_an_eval_for_each_task(exp: Exp) -> None:
    exp.slurm.show([running("11_0"), pending("11_1"), ended("11_2", user=ME), running("12_0"), running("12_1")])
    assert watch(exp, "a=11", "b=12_1").returncode == 0
    assert sorted(exp.state()["evals"]) == ["a[0]", "a[1]", "a[2]", "b[1]"]
    records = [json.loads(line) for line in Path(exp.experiment.registry).read_text().splitlines()]
    adopted = {r["job_id"]: r["submission"] for r in records if r["kind"] == "adopted"}
    assert adopted == {job: {"name": name} for name, job in NAMES_OF_TASKS.items()}
    assert "--dependency=afterany:11_0:11_1:12_1" in exp.slurm.calls("sbatch")[0]


def test_pending_tasks_take_the_output_of_their_array_where_accounting_has_none(exp: Exp) -> None:
    """Before Slurm 24.05 sacct has the place of each task, and scontrol one record of all that wait.

    In that record `%j` is filled in with the array's number, which is not the tasks'.
    """
    exp.slurm.show([pending("11_0"), pending("11_1"), pending("12_0")])
    row = "11_[0-1]|1700000000|gpu|lab|normal|/d|"
    exp.slurm.before(
        "sacct",
        f"""case "$*" in
*StdOut*) printf 'sacct: fatal: Invalid field requested: "StdOut"\\n' >&2; exit 1 ;;
*WorkDir*) for word; do case "$word" in --delimiter=*) d=${{word#--delimiter=}} ;; esac; done
printf '%s\\n' '{row}' | sed "s/|/$d/g"; exit 0 ;;
esac
""",
    )
    lines = [
        "JobId=11 ArrayJobId=11 ArrayTaskId=0-1 JobName=x",
        "SubmitTime=1700000000",
        "WorkDir=/d",
        "StdErr=/d/err-11.txt",
        "StdOut=/d/slurm-11_4294967294.out",
    ]
    (exp.slurm.directory / "jobs" / "11").write_text("\n   ".join(lines) + "\n")
    first = "JobId=12 ArrayJobId=12 ArrayTaskId=0,2 JobName=x Partition=gpu"
    lines = [first, *lines[1:3], "StdErr=/d/all.err", "StdOut=/d/12.out"]
    (exp.slurm.directory / "jobs" / "12").write_text("\n   ".join(lines) + "\n")
    assert watch(exp, "a=11", "b=12").returncode == 0
    records = [json.loads(line) for line in Path(exp.experiment.registry).read_text().splitlines()]
    adopted = [r for r in records if r["kind"] == "adopted"]
    assert [(r["job_id"], r["partition"], r.get("output"), r.get("errors")) for r in adopted] == [
        ("11_0", "gpu", "/d/slurm-11_%a.out", None),
        ("11_1", "gpu", "/d/slurm-11_%a.out", None),
        ("12_0", "gpu", None, "/d/all.err"),
    ]


def test_an_array_that_accounting_knows_only_as_a_whole_is_an_array(exp: Exp) -> None:
    exp.slurm.show([pending("11", queued=False, user=ME), pending("11_0", accounted=False), pending("11_1")])
    assert watch(exp, "a=11").returncode == 0
    assert sorted(exp.state()["evals"]) == ["a[0]", "a[1]"]


def test_a_job_of_which_accounting_has_only_the_end_is_asked_about_again_later(exp: Exp) -> None:
    exp.slurm.show([])
    row = ended("11", user="", name="allocation").account_rows().split("\n", maxsplit=1)[0]
    exp.slurm.answer("sacct", row.replace("\x1f30\x1f4", "\x1f\x1f4") + "\n")
    done = watch(exp, "a=11")
    assert (done.returncode, done.stderr) == (
        1,
        "evalmon: 11: accounting does not have all of it yet; try again in a minute\n",
    )


def test_jobs_that_share_a_directory_get_no_place_for_csv_files(exp: Exp) -> None:
    exp.slurm.show(
        [running("11", work_dir="/shared"), running("12", work_dir="/shared"), running("13", work_dir="/own")]
    )
    watch(exp, "a=11", "b=12", "c=13")
    exp.slurm.show([running("14", work_dir="/shared"), running("15", work_dir="/own")])
    watch(exp, "d=14", "e=15")
    places = {name: ev["output_dir"] for name, ev in exp.state()["evals"].items()}
    assert places == {"a": None, "b": None, "c": "/own", "d": None, "e": None}


def test_while_the_directory_of_a_job_is_unknown_no_job_gets_a_place_for_csv_files(exp: Exp) -> None:
    exp.slurm.show([running("11", work_dir="/shared"), running("12", work_dir="/shared")])
    (exp.slurm.directory / "jobs" / "12").write_text("")
    watch(exp, "a=11", "b=12")
    exp.slurm.show([running("13", work_dir="/own")])
    watch(exp, "c=13")
    assert [ev["output_dir"] for ev in exp.state()["evals"].values()] == [None, None, None]


def test_monitor_jobs_are_no_evals(exp: Exp) -> None:
    exp.slurm.show([running("11", name="cell")])
    watch(exp, "a=11")
    done = watch(exp, "1001", "--match", "*")
    assert done.stderr == "evalmon: 1001: one of evalmon's monitor jobs, not an eval\n"
    assert list(exp.state()["evals"]) == ["a"]


def test_a_job_submitted_by_submit_is_already_registered(exp: Exp) -> None:
    path = script(exp, "a")
    argv = [sys.executable, "-m", "evalmon_agent", "submit", ".", path]
    subprocess.run(argv, env=exp.slurm.environ, cwd=exp.root, check=True, capture_output=True)
    assert watch(exp, "1001").stdout.startswith("skipped r1/a/epoch0  job 1001: already registered\n")


@pytest.mark.survives("F18")
def test_an_earlier_job_with_the_id_is_not_mistaken_for_the_job(exp: Exp) -> None:
    old = Job("11", "COMPLETED", submitted=1_600_000_000, started=1_600_000_010, ended=1_600_000_020, queued=False)
    exp.slurm.show([old, pending("11", accounted=False)])
    assert watch(exp, "a=11").returncode == 0
    [attempt] = exp.state()["evals"]["a"]["jobs"][0]["attempts"]
    assert (attempt["submitted_at"], exp.state()["evals"]["a"]["state"]) == (1_700_000_000.0, "PENDING")


def test_a_job_that_reported_itself_is_that_eval(exp: Exp) -> None:
    exp.experiment.prepare(group_readable=False)
    exp.report("11", "hooked")
    exp.slurm.show([running("11")])
    done = watch(exp, "a=11")
    assert (done.returncode, done.stdout.splitlines()[:2]) == (
        0,
        [
            "watching hooked  job 11 (RUNNING); the job's own report gives this name; a is not used",
            "completion job: submitted job 1001 (after 1 job)",
        ],
    )
    assert (list(exp.state()["evals"]), len(exp.state()["evals"]["hooked"]["jobs"])) == (["hooked"], 1)
    submitted = exp.slurm.calls("sbatch")
    assert "--dependency=afterany:11" in submitted[0]
    assert ["--partition=gpu --account=lab --qos=normal" in call for call in submitted] == [True, True]
    assert watch(exp, "11").stdout.startswith("skipped hooked  job 11: already registered\n")


@pytest.mark.survives("S4")
def test_a_jobs_name_and_directory_are_printed_on_one_line(exp: Exp) -> None:
    exp.slurm.show([running("11", name="x\x1b[31m\nevalmon: forged")])
    done = watch(exp, "11")
    assert done.stdout.splitlines()[0] == "watching x\\x1b[31m\\nevalmon: forged  job 11 (RUNNING)"
