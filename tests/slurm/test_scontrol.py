"""Tests what scontrol reports of a job: whether preemption ends it, where it runs, and where its output goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.scontrol import JobDetails, parse_jobs, show_job
from evalmon_agent.words.job_id import JobId


def test_the_query_names_the_job() -> None:
    assert ["scontrol", "-a", "show", "job", "7"] == show_job("7")


@pytest.mark.survives("F19")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # As 22.05 prints it: PreemptMode=CANCEL, PreemptMode=REQUEUE, and a job that is never preempted.
        ("PreemptEligibleTime=2026-11-25T18:17:28 PreemptTime=2026-11-25T18:17:30", True),
        ("JobState=COMPLETING Reason=None Dependency=(null)", False),
        ("PreemptEligibleTime=2026-11-25T18:17:28 PreemptTime=None", False),
        ("PreemptTime=Unknown", False),
        ("", False),
    ],
)
def test_a_job_that_preemption_cancels_is_recognised(text: str, expected: bool) -> None:
    assert [expected] == [job.is_preempted for job in parse_jobs(f"JobId=7 {text}")]


@given(st.text())
def test_no_text_raises(text: str) -> None:
    parse_jobs(text)
    parse_jobs(f"JobId=7 {text}")


JOB_22_05 = """JobId=10044 JobName=cell.slurm
   JobState=FAILED Reason=JobLaunchFailure Dependency=(null)
   WorkDir=/x y
   StdErr=/x y/errs/10044.out
   StdIn=/dev/null
   StdOut=/x y/slurm-10044.out
   Power=

"""
JOB_26_05 = """JobId=10002 JobName=b
   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:53
   StdErr=
   StdIn=/x/nope.txt
   StdOut=/x/%u/slurm-10002.out
"""


def test_a_jobs_files_are_those_that_slurm_names() -> None:
    errors, output = "/x y/errs/10044.out", "/x y/slurm-10044.out"
    expected = JobDetails(JobId("10044"), None, work_dir="/x y", output=output, errors=errors, input="/dev/null")
    assert [expected] == parse_jobs(JOB_22_05)
    expected = JobDetails(JobId("10002"), None, output="/x/%u/slurm-10002.out", input="/x/nope.txt")
    assert [expected] == parse_jobs(JOB_26_05)
    assert parse_jobs("slurm_load_jobs error: Invalid job id specified") == []


ARRAY_22_05 = """JobId=12 ArrayJobId=12 ArrayTaskId=2-3%1 ArrayTaskThrottle=1 JobName=wrap
   Priority=4294901752 Nice=0 Account=(null) QOS=normal
   SubmitTime=1700000000 EligibleTime=1700000000
   Partition=gpu AllocNode:Sid=n1:7
   StdErr=/x y/e/wrap.12
   StdOut=/x y/slurm-12_4294967294.out

JobId=15 ArrayJobId=12 ArrayTaskId=1 ArrayTaskThrottle=1 JobName=wrap
   SubmitTime=1700000000 EligibleTime=1700000000
   StdErr=/x y/slurm-12_1.out
   StdOut=/x y/slurm-12_1.out

"""


def test_each_tasks_output_is_named_and_pending_ones_have_a_pattern() -> None:
    expected = [
        JobDetails(
            JobId("12"), 1700000000.0, "gpu", None, "normal", None, "/x y/slurm-12_%a.out", "/x y/e/wrap.12", None
        ),
        JobDetails(JobId("12_1"), 1700000000.0, output="/x y/slurm-12_1.out", errors="/x y/slurm-12_1.out"),
    ]
    assert expected == parse_jobs(ARRAY_22_05)
