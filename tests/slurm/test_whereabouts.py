"""Tests where jobs run by squeue and sacct; an unreadable row affects only itself."""

from __future__ import annotations

from evalmon_agent.slurm.scontrol import OutputFiles
from evalmon_agent.slurm.whereabouts import (
    Whereabouts,
    account_argv,
    output_argv,
    parse_accounts,
    parse_outputs,
    parse_queue,
    queue_argv,
)
from evalmon_agent.words.job_id import JobId


def test_squeue_is_asked_once_for_all_jobs_of_the_user() -> None:
    expected = ["squeue", "-a", "-h", "--me", "-r", "-t", "all", "-o", "\x1e%i\x1f%V\x1f%P\x1f%a\x1f%q\x1f%Z"]
    assert expected == queue_argv()


def test_a_row_is_one_job_whatever_its_directory_is_called() -> None:
    first = "\x1e12_3\x1f1700000000\x1fgpu\x1flab\x1fnormal\x1f/a b\x1f\nc\n"
    second = "\x1e13\x1f1700000001\x1fgpu\x1f(null)\x1f\x1f/d\n"
    assert parse_queue(first + second) == [
        Whereabouts(JobId("12_3"), 1700000000.0, "gpu", "lab", "normal", "/a b\x1f\nc"),
        Whereabouts(JobId("13"), 1700000001.0, "gpu", None, None, "/d"),
    ]


def test_accounting_is_asked_without_steps_and_pending_tasks_are_separated() -> None:
    argv = account_argv(["12", "13"], delimiter="\x1f")
    assert argv[-3:] == ["12,13", "-o", "JobID,Submit,Partition,Account,QOS,WorkDir"]
    found = parse_accounts("12_[3-4]\x1f1700000000\x1fgpu\x1flab\x1fnormal\x1f/d\n", delimiter="\x1f")
    assert [str(one.job_id) for one in found] == ["12_3", "12_4"]


def test_garbage_gives_nothing() -> None:
    assert parse_queue("slurm_load_jobs error\n\x1ex\x1fy\n\x1e12\x1f1\n") == []
    assert parse_accounts("garbage\n12.batch\x1f1\x1f\x1f\x1f\x1f/d\n", delimiter="\x1f") == []


def test_text_that_is_no_path_is_no_directory() -> None:
    [found] = parse_accounts("12\x1fUnknown\x1fgpu\x1flab\x1fnormal\x1frelative", delimiter="\x1f")
    assert (found.work_dir, found.submitted_at) == (None, None)


def test_accounting_has_the_output_patterns_as_given() -> None:
    """24.11 makes them absolute, 26.05 keeps the default relative [ran]; an older sacct refuses the fields."""
    assert output_argv(["12"], delimiter="\x1f")[-1] == "JobID,Submit,User,StdOut,StdErr,WorkDir,JobName"
    rows = [
        "12_1|1700000000|me|/w/o-%A-%3a.txt|/w/e/%x.%j|/w|100%ab",
        "13|1700000001|me|slurm-%j-%u.out||/w|wrap",
        "14|1700000001|me|||/w|wrap",
        "12.batch|1700000000||||||",
        "torn|row",
    ]
    assert parse_outputs("\n".join(rows), delimiter="|") == [
        OutputFiles(JobId("12_1"), 1700000000.0, "/w/o-%A-%3a.txt", "/w/e/100%%ab.%j"),
        OutputFiles(JobId("13"), 1700000001.0, "/w/slurm-%j-me.out", None),
        OutputFiles(JobId("14"), 1700000001.0, None, None),
    ]
