"""Tests what scontrol reports of a job: whether preemption ends it, and where its output goes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.scontrol import OutputFiles, is_preempted_for_good, output_files, show_job, standard_files
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
    assert expected == is_preempted_for_good(text)


@given(st.text())
def test_parsing_never_raises(text: str) -> None:
    assert is_preempted_for_good(text) in {True, False}


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
    assert standard_files(JOB_22_05) == {
        "StdErr": "/x y/errs/10044.out",
        "StdIn": "/dev/null",
        "StdOut": "/x y/slurm-10044.out",
    }
    assert standard_files(JOB_26_05) == {"StdIn": "/x/nope.txt"}
    assert standard_files("slurm_load_jobs error: Invalid job id specified") == {}


ARRAY_22_05 = """JobId=12 ArrayJobId=12 ArrayTaskId=2-3%1 ArrayTaskThrottle=1 JobName=wrap
   SubmitTime=1700000000 EligibleTime=1700000000
   StdErr=/x y/e/wrap.12
   StdOut=/x y/slurm-12_4294967294.out

JobId=15 ArrayJobId=12 ArrayTaskId=1 ArrayTaskThrottle=1 JobName=wrap
   SubmitTime=1700000000 EligibleTime=1700000000
   StdErr=/x y/slurm-12_1.out
   StdOut=/x y/slurm-12_1.out

"""


def test_each_tasks_output_is_named_and_pending_ones_have_a_pattern() -> None:
    assert output_files(ARRAY_22_05) == [
        OutputFiles(JobId("12"), 1700000000.0, "/x y/slurm-12_%a.out", "/x y/e/wrap.12"),
        OutputFiles(JobId("12_1"), 1700000000.0, "/x y/slurm-12_1.out", "/x y/slurm-12_1.out"),
    ]
    assert output_files(JOB_26_05) == [OutputFiles(JobId("10002"), None, "/x/%u/slurm-10002.out")]
    assert output_files("slurm_load_jobs error: Invalid job id specified") == []
