"""Tests which report a process writes to, by its environment and the command lines above it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.agent.job import Job, is_run, job_of, step_of

NAMES = [
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_HET_SIZE",
    "SLURM_JOB_ID_HET_GROUP_0",
    "SLURM_STEP_ID",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
    "SLURM_JOB_END_TIME",
    "SLURM_TASK_PID",
]


def job(*, step: str | None = None, is_script: bool = False, **environ: str) -> Job:
    found = job_of({"SLURM_JOB_ID": "123"} | environ, pid=77, is_script=is_script, step=step)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("step", "is_script", "environ", "file", "scope"),
    [
        ("batch", True, {}, "123.json", "job"),
        ("batch", False, {"SLURM_TASK_PID": "77"}, "123.json", "job"),
        ("batch", False, {"SLURM_TASK_PID": "76"}, "123.json", "part"),
        ("batch", False, {"SLURM_TASK_PID": "77", "SLURM_STEP_ID": "0"}, "123.json", "job"),
        (None, True, {"SLURM_STEP_ID": "0"}, "123.json", "job"),
        (None, False, {"SLURM_STEP_ID": "4", "SLURM_PROCID": "2"}, "123.4.2.json", "part"),
        ("4", False, {"SLURM_TASK_PID": "77", "SLURM_PROCID": "2"}, "123.4.2.json", "part"),
        ("4", True, {}, "123.4.0.json", "part"),
        ("interactive", False, {"SLURM_STEP_ID": "4294967290"}, "123.json", "part"),
        ("extern", False, {}, "123.json", "part"),
        (None, False, {}, "123.json", "part"),
    ],
)
def test_batch_shell_part_and_step_are_distinguished(
    step: str | None, environ: dict[str, str], file: str, scope: str, *, is_script: bool
) -> None:
    found = job(step=step, is_script=is_script, **environ)
    assert (found.file, found.scope) == (file, scope)


@pytest.mark.survives("S7")
@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=25) | st.integers(0, 10**25).map(str)))
def test_no_environment_value_leads_out_of_the_directory(environ: dict[str, str]) -> None:
    found = job_of(environ, pid=1, is_script=False, step=None)
    for name in (found.file, found.spare_file) if found else ():
        assert set(name.removesuffix(".json")) <= set("0123456789_+.")
        assert ".." not in name
        assert name[0].isdigit()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/venv/bin/python -E -P -m evalmon_agent run -- script", True),
        ("python3.12 -m evalmon_agent run x", True),
        ("/usr/bin/python3 -X dev -W error -m evalmon_agent run x", True),
        ("/venv/bin/python /venv/bin/evalmon run -- x", True),
        ("/venv/bin/python -E -P /venv/lib/evalmon_agent/__main__.py run -- x", True),
        ("/usr/bin/python3 -sP /usr/bin/evalmon run x", True),
        ("/venv/bin/python -E -P -m evalmon_agent hook", False),
        ("/venv/bin/python -m evalmon_agent", False),
        ("/venv/bin/python -m evalmon_agent status run", False),
        ("timeout 10 evalmon run -- x", False),
        ("bash /home/me/evalmon run", False),
        ("srun /venv/bin/python -m evalmon_agent run x", False),
        ("/venv/bin/python script.py evalmon run", False),
        ("/venv/bin/python -c evalmon run", False),
        ("python", False),
        ("python -m", False),
        ("python -X", False),
        ("", False),
    ],
)
def test_only_a_python_running_evalmon_run_counts_as_run(line: str, *, expected: bool) -> None:
    assert is_run([word.encode() for word in line.split(" ")]) is expected


@pytest.mark.parametrize(
    ("title", "job", "expected"),
    [
        (b"slurmstepd: [123.batch]", "123", "batch"),
        (b"slurmstepd: [123.0] ", "123", "0"),
        (b"slurmstepd: [123.interactive]", "123", "interactive"),
        (b"slurmstepd: [124.batch]", "123", None),
        (b"slurmstepd: [123]", "123", None),
        (b"slurmstepd: [", "123", None),
        (b"slurmstepd: [\xff.batch]", "123", None),
        (b"slurmstepd: [123.batch]", None, None),
    ],
)
def test_the_step_is_read_from_slurmstepds_title(title: bytes, job: str | None, expected: str | None) -> None:
    assert step_of(title, job) == expected
