"""Tests that the command gets its own process group only if Slurm tracks the job by its cgroup."""

import pytest

from evalmon_agent.agent.command import is_tracked
from evalmon_agent.files.proc import parse_cgroups

V1 = "6:freezer:/slurm_n3/uid_0/job_140/step_batch\n4:memory:/slurm_n3/uid_0/job_140/step_batch/task_0\n0::/\n"
V2 = "0::/system.slice/slurmstepd.scope/job_140/step_batch/user/task_0\n"


@pytest.mark.parametrize("own", [V1, V2, "0::/slurm/job_140\n"])
def test_proctrack_cgroup_is_recognised(own: str) -> None:
    assert is_tracked(parse_cgroups(own), job_id=140)


@pytest.mark.parametrize(
    "own",
    [
        "",
        "garbage",
        V1.replace("freezer", "pids"),
        V1.replace("job_140", "job_14"),
        V2.replace("job_140", "job_1401"),
        "6:freezer:/\n0::/user.slice/user-0.slice\n",
    ],
)
def test_other_process_tracking_is_not(own: str) -> None:
    assert not is_tracked(parse_cgroups(own), job_id=140)
