"""Tests that hundreds of jobs starting and ending at once, as real agent processes, lose no report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import Exp, ended, running
from fake_slurm import Job

FIRST = 1000
AT_ONCE = """
import json, os, sys
from evalmon_agent.agent import arguments
from evalmon_agent.agent.command import Run
from evalmon_agent.agent.job import job_of
from evalmon_agent.agent.report import write_report
from evalmon_agent.agent.run import main

def whole_agent(asked, code):
    main(asked)

def writers(asked, code):
    asked = arguments.parse_run(asked)
    job = job_of(os.environ, pid=os.getpid(), is_script=False, step=None)
    run = Run("sh", os.getpid())
    started = write_report(asked, job, run, notes=[], parent=os.getppid(), stderr=-1)
    run.has_ended(code << 8)
    os._exit(started or write_report(asked, job, run, notes=[], parent=os.getppid(), stderr=-1) or code)

monitor, first, number, how = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), globals()[sys.argv[4]]
reads, writes = os.pipe()
for n in range(number):
    if os.fork() == 0:
        os.close(writes)
        os.read(reads, 1)  # until all are there
        job = str(first + n)
        ours = {"SLURM_JOB_ID": job, "SLURM_TASK_PID": str(os.getpid()), "EVALMON_DIR": monitor}
        os.environ.update(SLURM_CLUSTER_NAME="test", **ours)
        how(["--name", f"r1/e{job}", "--", "sh", "-c", f"sleep {n % 20 / 4}; exit {n % 3}"], n % 3)
os.close(reads)
os.close(writes)
statuses = {}
for _ in range(number):
    pid, status = os.wait()
    code = os.waitstatus_to_exitcode(status)
    statuses[code] = statuses.get(code, 0) + 1
print(json.dumps(statuses))
"""


def report_at_once(exp: Exp, number: int, how: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", AT_ONCE, str(exp.ours), str(FIRST), str(number), how]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def all_are_there_after_two_polls(exp: Exp, number: int, *, how: str) -> None:
    ids = [str(FIRST + n) for n in range(number)]
    exp.register(**{f"r1_e{job}": job for job in ids})
    exp.slurm.show([running(job) for job in ids])
    with report_at_once(exp, number, how) as jobs:
        # An observer polls while they write.
        exp.observer().observe_once(at_least_s=0)
        said, _ = jobs.communicate(timeout=580)
    assert json.loads(said) == {str(code): len(range(code, number, 3)) for code in range(3)}
    exp.slurm.show([over(job) for job in ids])
    for _ in range(2):
        exp.observer().observe_once(at_least_s=0)
    evals = exp.state()["evals"]
    known = {
        name: [attempt["report"]["exit_code"] for attempt in ev["jobs"][0]["attempts"]] for name, ev in evals.items()
    }
    assert known == {f"r1/e{job}": [n % 3] for n, job in enumerate(ids)}
    assert len(exp.transitions()) == 2 * number
    assert exp.temporaries() == []


def over(job: str) -> Job:
    code = (int(job) - FIRST) % 3
    return ended(job, "FAILED" if code else "COMPLETED", exit_code=f"{code}:0")


@pytest.mark.survives("F8")
def test_500_simultaneous_reports_are_all_read_after_two_polls(tmp_path: Path) -> None:
    all_are_there_after_two_polls(Exp(tmp_path), 500, how="writers")


@pytest.mark.full
@pytest.mark.survives("F8")
def test_5000_simultaneous_reports_are_all_read_after_two_polls(tmp_path: Path) -> None:
    all_are_there_after_two_polls(Exp(tmp_path), 5000, how="writers")


@pytest.mark.full
@pytest.mark.survives("F8")
def test_the_reports_of_100_whole_agents_are_all_read(tmp_path: Path) -> None:
    """Not more: all share this machine's cores, and none may wait longer than two seconds for its report."""
    all_are_there_after_two_polls(Exp(tmp_path), 100, how="whole_agent")
