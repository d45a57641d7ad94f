"""Tests jobs that Slurm does not start because it cannot open their output or input (`0:53`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from real_slurm.cluster import HEADER, Exp

pytestmark = pytest.mark.slurm


def test_submit_warns_and_the_diagnosis_names_the_directory(exp: Exp, tmp_path: Path) -> None:
    """No Slurm can create a directory below a file, and none creates an input file."""
    (tmp_path / "file").touch()
    wanted = {
        "output": f"--output={tmp_path}/file/%j.out",
        "errors": f"--error={tmp_path}/file/%j.err",
        "array": f"--array=0-1\n#SBATCH --output={tmp_path}/file/%A_%a.out",
        "input": "--input=nothing.txt",
    }
    for name, option in wanted.items():
        exp.script("r1", f"{name}_epoch0", "true\n", header=f"{HEADER}#SBATCH {option}\n")
    exp.script("r1", "well_epoch0", "true\n", header=f"{HEADER}#SBATCH --output=%x-%j.out\n")
    done = exp.submit("--mode", "dependency")
    warned = [line for line in done.stderr.splitlines() if line.startswith("evalmon: warning: ")]
    assert (done.returncode, len(warned)) == (0, 1), done.stderr
    assert f" and 2 more: the output goes to {tmp_path}/file (Not a directory)" in warned[0]
    exp.wait_complete()
    evals = exp.evals()
    assert evals.pop("r1/well/epoch0")["verdict"] == "ok"
    missing = (
        "output-directory-missing",
        f"Slurm could not open the job's output (0:53): {tmp_path}/file: Not a directory",
    )
    read = exp.root / "r1" / "eval" / "input_epoch0" / "nothing.txt"
    unread = ("missing-file", f"Slurm could not open the job's input (0:53): {read}: cannot be read here")
    found = {name: (ev["diagnosis"]["cause"], ev["diagnosis"]["evidence"]) for name, ev in evals.items()}
    assert found == {
        "r1/output/epoch0": missing,
        "r1/errors/epoch0": missing,
        "r1/array/epoch0[0]": missing,
        "r1/array/epoch0[1]": missing,
        "r1/input/epoch0": unread,
    }


def test_slurm_names_the_file_of_a_job_without_a_script(exp: Exp, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    wrap = ("--job-name=wrapped", "--mem=100", f"--output={tmp_path}/file/%j.out", "--wrap", "true")
    job = exp.cluster.run("sbatch", "--parsable", "--hold", *wrap, cwd=str(exp.root)).stdout.strip()
    assert exp.evalmon("watch", str(exp.root), job, "--mode", "dependency").returncode == 0
    exp.cluster.run("scontrol", "release", job)
    exp.wait_complete()
    [ev] = exp.evals().values()
    assert ev["diagnosis"]["cause"] == "output-directory-missing"
    assert f"{tmp_path}/file: Not a directory" in ev["diagnosis"]["evidence"]
