"""Tests where the output of a job is looked for if only its script is known."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evalmon_agent.collect.attempt_files import Outputs, outputs_of
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.tracking.records import Eval, Job
from evalmon_agent.words.states import State

FILES = OwnedFiles(os.geteuid())


def hooked(directory: Path) -> Eval:
    """Its hook has `--output-dir out`, and its script is known to Slurm only."""
    jobs = [Job("7", 1.0)]
    return Eval("r/t", "7", State.FAILED, jobs=jobs, script=f"{directory}/a.sh", output_dir=f"{directory}/out")


def test_a_hooked_jobs_output_is_found_beside_its_script_although_its_metrics_are_elsewhere(tmp_path: Path) -> None:
    assert Outputs() == outputs_of("#!/bin/sh\n", hooked(tmp_path), "7", files=FILES)
    (tmp_path / "slurm-7.out").touch()
    assert Outputs(f"{tmp_path}/slurm-7.out") == outputs_of(
        "#!/bin/sh\n", hooked(tmp_path), "7", files=OwnedFiles(os.geteuid())
    )


@pytest.mark.parametrize("name", ["all.out", "%x.out"])
def test_a_file_without_the_jobs_id_may_be_another_jobs(tmp_path: Path, name: str) -> None:
    (tmp_path / "all.out").touch()
    (tmp_path / "a.sh.out").touch()
    assert Outputs() == outputs_of(
        f"#!/bin/sh\n#SBATCH --output={name}\n", hooked(tmp_path), "7", files=OwnedFiles(os.geteuid())
    )


def adopted(output: str, errors: str | None = None) -> Eval:
    """A job by `sbatch --wrap` or from a script on stdin: no script is known."""
    return Eval("t", "7_3", State.FAILED, jobs=[Job("7_3", 1.0, output=output, errors=errors)])


@pytest.mark.parametrize("name", ["slurm-7_3.out", "slurm-%A_%a.out", "slurm-%A_%1a.out"])
def test_the_output_of_an_adopted_job_without_a_script_is_where_slurm_says(tmp_path: Path, name: str) -> None:
    ev = adopted(f"{tmp_path}/{name}")
    assert Outputs() == outputs_of("", ev, "7_3", files=FILES)
    (tmp_path / "slurm-7_3.out").touch()
    assert Outputs(f"{tmp_path}/slurm-7_3.out") == outputs_of("", ev, "7_3", files=FILES)
    (tmp_path / "e").touch()
    both = adopted(f"{tmp_path}/{name}", f"{tmp_path}/e")
    assert Outputs(f"{tmp_path}/slurm-7_3.out", f"{tmp_path}/e") == outputs_of("", both, "7_3", files=FILES)


@pytest.mark.parametrize("pattern", ["/w/%j.out", "/w/%N.out"])
def test_fields_that_only_slurm_can_fill_in_are_not_guessed(pattern: str) -> None:
    assert Outputs() == outputs_of("", adopted(pattern), "7_3", files=FILES)
