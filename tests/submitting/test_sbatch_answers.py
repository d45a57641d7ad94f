"""Tests that whatever sbatch and a site's wrapper print, an accepted job is registered and never submitted twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalmon_agent.commands.submit import submit
from evalmon_agent.settings import Settings
from evalmon_agent.submitting.submit_evals import SubmitReport
from experiments import Exp

SILENT = "exec >/dev/null\n"


def submitted(exp: Exp) -> SubmitReport:
    environ = exp.slurm.environ
    quick = Settings(poll_interval=1.0)
    return submit(exp.session(quick, environ=environ), named=(), mode="dependency", dry_run=False, sleep=lambda _: None)


def with_eval(directory: Path) -> Exp:
    exp = Exp(directory)
    script = exp.root / "r" / "eval" / "a_epoch0.slurm"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\ntrue\n")
    return exp


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("echo 1500\n", ""),
        ("", "echo 'GPU hours left:'; echo 77\n"),
        (SILENT, ""),
        (SILENT, "echo 'Your job is in good hands' >&2\n"),
        (SILENT, "echo 'hook failed: disk full' >&2; exit 3\n"),
        (SILENT, "echo 1500 >&2; exit 1\n"),
        ("", "echo 'hook failed' >&2; exit 1\n"),
        (SILENT, 'echo "Submitted batch job $id" >&2; exit 1\n'),
    ],
)
def test_an_unclear_answer_is_resolved_by_looking_for_the_job(tmp_path: Path, before: str, after: str) -> None:
    exp = with_eval(tmp_path)
    exp.slurm.before("sbatch", before)
    exp.slurm.after("sbatch", after)
    report = submitted(exp)
    assert ([one["job_id"] for one in report.submitted], report.refused) == (["1001"], [])
    assert report.completion is not None
    assert (report.completion.status, report.completion.job_id) == ("submitted", "1002")
    assert submitted(exp).submitted == []
    assert len(exp.slurm.accepted()) == 2


def test_any_failure_is_a_refusal_if_no_job_is_found(tmp_path: Path) -> None:
    exp = with_eval(tmp_path)
    exp.slurm.before("sbatch", "echo 'wrapper: no project chosen' >&2; exit 1\n")
    assert [one["error"] for one in submitted(exp).refused] == ["wrapper: no project chosen"]
    exp.slurm.mend("sbatch")
    assert len(submitted(exp).submitted) == 1


def test_if_the_job_cannot_be_looked_for_it_is_unknown_and_nothing_is_submitted_twice(tmp_path: Path) -> None:
    exp = with_eval(tmp_path)
    exp.slurm.before("sbatch", SILENT)
    exp.slurm.after("sbatch", f"echo 'slurm_load_jobs error: Unable to contact' > {exp.slurm.directory}/squeue.err\n"
                              f"echo 1 > {exp.slurm.directory}/squeue.rc; exit 1\n")  # fmt: skip
    [refused] = submitted(exp).refused
    assert "it is not known whether Slurm took it" in refused["error"]
    exp.slurm.mend("sbatch")
    exp.slurm.mend("squeue")
    assert submitted(exp).submitted == []
    assert [script for _, script in exp.slurm.accepted()] == ["a_epoch0.slurm", "evalmon-completion"]
