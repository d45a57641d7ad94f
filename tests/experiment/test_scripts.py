"""Tests that a script which asks Slurm for its own path gets its own directory, also if it follows links."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import faults
from evalmon_agent.commands.submit import submit
from evalmon_agent.experiment.experiment_lock import locked
from evalmon_agent.experiment.scripts import asks_for_its_path, launcher_of, read_script
from experiments import Exp

ASKS = "#!/bin/sh\n#SBATCH --time=5\nscontrol show job $SLURM_JOB_ID | awk -F= '/Command=/{print $2}'\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ASKS.encode(), True),
        (b"squeue -h -j $SLURM_JOB_ID -o %o", True),
        (b"squeue -h -j $SLURM_JOB_ID -O command", True),
        (b"scontrol requeue $SLURM_JOB_ID", False),
        (b"srun command", False),
    ],
)
def test_such_a_script_is_recognised_by_its_text(text: bytes, expected: bool) -> None:
    assert asks_for_its_path(text) is expected


def submitted(exp: Exp, script: str, content: str) -> tuple[Path, Path]:
    """Check Slurm's path of the script; a path that leads nowhere causes a warning if the script asks for it."""
    path = exp.root / script
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    argv = [sys.executable, "-m", "evalmon_agent", "submit", ".", str(path)]
    done = subprocess.run(argv, env=exp.slurm.environ, cwd=exp.root, check=True, capture_output=True, text=True)
    [call] = [c for c in exp.slurm.calls("sbatch") if c.endswith(f"/{path.name}")]
    command = Path(call.rpartition(" ")[2])
    assert ("will lead nowhere" in done.stderr) is (content == ASKS and not command.exists())
    return path, command


def test_slurms_path_of_the_command_leads_to_the_script_and_its_directory(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    path, command = submitted(exp, "r1/eval/a_epoch0/cell.slurm", ASKS)
    assert command.resolve() == path.resolve()
    assert command.read_text() == ASKS
    launcher = Path(launcher_of(exp.experiment, command.parts[-3], str(path)))
    assert launcher.parent.name == "launcher"
    assert read_script(exp.experiment, command.parts[-3], str(path)) == ASKS.encode()


@pytest.mark.parametrize(
    ("script", "content"), [("top.slurm", ASKS), ("r1/eval/a_epoch0/cell.slurm", ASKS.replace("Command", "JobId"))]
)
def test_no_link_is_created_without_need_or_into_a_loop(tmp_path: Path, script: str, content: str) -> None:
    exp = Exp(tmp_path)
    path, command = submitted(exp, script, content)
    assert not command.exists()
    assert not [p for p in exp.ours.rglob("*") if p.is_symlink()]
    [record] = exp.ours.glob(f"scripts/{command.parent.name}/{path.name}")
    assert read_script(exp.experiment, command.parent.name, str(path)) == content.encode()
    record.write_bytes(record.read_bytes() + b"changed")
    assert read_script(exp.experiment, command.parent.name, str(path)) is None


@pytest.mark.survives("S17")
@pytest.mark.parametrize(("mode", "leads_home"), [(0o755, True), (0o777, False)])
def test_a_script_elsewhere_gets_a_link_only_where_no_other_user_can_replace_it(
    tmp_path: Path, mode: int, leads_home: bool
) -> None:
    """A script below EXP looks for files where the same people can write anyway."""
    exp = Exp(tmp_path)
    (exp.root / "evalmon.yaml").write_text("allow_world_writable: true\n")
    exp.root.chmod(mode)
    path, command = submitted(exp, str(tmp_path / "elsewhere" / "a.slurm"), ASKS)
    assert (command.exists() and command.resolve() == path.resolve()) is leads_home


def test_after_a_killed_submission_the_next_one_creates_the_link(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    path = exp.root / "r1/eval/a_epoch0/cell.slurm"
    path.parent.mkdir(parents=True)
    path.write_text(ASKS)
    exp.slurm.after("sbatch", 'case "$*" in *cell.slurm*) kill -STOP $$ ;; esac\n')
    pid = faults.forked(lambda: submit_all(exp))
    os.kill(pid, signal.SIGCONT)
    faults.wait_until(lambda: len(exp.slurm.accepted()) == 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    exp.slurm.mend("sbatch")
    submit_all(exp)
    [call] = [c for c in exp.slurm.calls("sbatch") if c.endswith("/cell.slurm")]
    assert Path(call.rpartition(" ")[2]).resolve() == path.resolve()


def test_the_link_is_created_before_the_lock_is_acquired(tmp_path: Path) -> None:
    exp = Exp(tmp_path)
    path = exp.root / "r1/eval/a_epoch0/cell.slurm"
    path.parent.mkdir(parents=True)
    path.write_text(ASKS)
    exp.slurm.after("sbatch", 'while [ ! -e "$dir/go" ]; do sleep 0.01; done\n')
    pid = faults.forked(lambda: submit_all(exp))
    os.kill(pid, signal.SIGCONT)
    faults.wait_until(lambda: len(exp.slurm.accepted()) == 1)
    [call] = [c for c in exp.slurm.calls("sbatch") if c.endswith("/cell.slurm")]
    with locked(exp.experiment):
        (exp.slurm.directory / "go").touch()
        faults.wait_until(lambda: Path(call.rpartition(" ")[2]).resolve() == path.resolve())
    assert os.waitpid(pid, 0)[1] == 0


def submit_all(exp: Exp) -> None:
    environ = exp.slurm.environ
    submit(exp.session(environ=environ), named=(), mode="dependency", dry_run=False)
