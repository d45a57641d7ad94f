"""Tests that a launcher which others could replace is submitted held, until Slurm has shown the right script."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evalmon_agent.tracking.registry import Entry
from experiments import Exp

ASKS = "#!/bin/sh\n{}scontrol show job $SLURM_JOB_ID | grep Command= # \N{LATIN SMALL LETTER U WITH DIAERESIS}\n"
NO_NEWS = 'case " $* " in *" write "*) echo "scontrol: error: Unable to contact slurm controller" >&2; exit 1 ;; esac\n'


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    """In a directory where anybody can rename EXP/evalmon."""
    found = Exp(tmp_path)
    (found.root / "evalmon.yaml").write_text("allow_world_writable: true\n")
    found.root.chmod(0o777)
    return found


def submit(exp: Exp, head: str = "") -> subprocess.CompletedProcess[str]:
    path = exp.root / "r1" / "eval" / "a_epoch0" / "cell.slurm"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(ASKS.format(head))
    argv = [sys.executable, "-m", "evalmon_agent", "submit", "--mode", "dependency", str(exp.root)]
    return subprocess.run(argv, env=exp.slurm.environ, check=False, capture_output=True, text=True)


def entry(exp: Exp) -> Entry:
    [found] = [one for one in exp.anew().experiment.ledger.entries() if one.is_eval]
    return found


def held(exp: Exp) -> list[bool]:
    return ["--hold" in call for call in exp.slurm.calls("sbatch") if call.endswith("/cell.slurm")]


@pytest.mark.survives("S17")
def test_a_job_is_released_once_slurm_has_shown_its_script(exp: Exp) -> None:
    assert submit(exp).returncode == 0
    assert held(exp) == [True]
    assert exp.slurm.calls("scontrol")[-2:] == ["scontrol write batch_script 1001 -", "scontrol release 1001"]
    assert entry(exp).accepted is not None


@pytest.mark.survives("S17")
def test_a_job_with_a_replaced_script_is_cancelled_and_reported(exp: Exp) -> None:
    exp.slurm.after("sbatch", 'case "$script" in */cell.slurm) echo "echo evil" >>"$dir/ids/$id/script" ;; esac\n')
    done = submit(exp)
    assert done.returncode != 0
    why = "job 1001 was cancelled before it ran: somebody exchanged its script while sbatch read it"
    assert why in done.stderr
    assert "scontrol release 1001" not in exp.slurm.calls("scontrol")
    assert exp.slurm.calls("scancel") == ["scancel -Q 1001"]
    assert entry(exp).accepted is None
    exp.slurm.mend("sbatch")
    assert submit(exp).returncode == 0
    assert exp.slurm.calls("scontrol")[-1] == "scontrol release 1002"


@pytest.mark.parametrize("head", ["#SBATCH --hold\n", "#SBATCH -H\n"])
def test_a_job_that_the_user_holds_stays_held(exp: Exp, head: str) -> None:
    assert submit(exp, head).returncode == 0
    assert exp.slurm.calls("scontrol")[-1] == "scontrol write batch_script 1001 -"


def test_without_slurms_answer_the_next_command_releases_the_job(exp: Exp) -> None:
    exp.slurm.before("scontrol", NO_NEWS)
    done = submit(exp)
    assert "job 1001 is held until its script has been checked" in done.stderr
    assert entry(exp).is_open
    assert exp.slurm.calls("scancel") == []
    exp.slurm.mend("scontrol")
    assert submit(exp).returncode == 0
    assert held(exp) == [True]
    assert exp.slurm.calls("scontrol")[-1] == "scontrol release 1001"
    assert entry(exp).accepted is not None


def test_a_job_that_ran_after_its_submitter_was_killed_is_accepted(exp: Exp) -> None:
    exp.slurm.after("scontrol", '[ "$1" = release ] && kill -9 $PPID\n')
    assert submit(exp).returncode == -signal.SIGKILL
    [call] = exp.slurm.calls("sbatch")
    command = Path(call.rpartition(" ")[2])
    assert command.read_bytes() == (exp.root / "r1" / "eval" / "a_epoch0" / "cell.slurm").read_bytes()
    exp.slurm.mend("scontrol")
    exp.slurm.start("1001")
    row = exp.slurm.directory / "queue" / "1001"
    row.write_text(row.read_text().replace("RUNNING", "COMPLETED"))
    finished = "echo 'slurm_suspend error: Job has already finished' >&2; exit 1"
    exp.slurm.before("scontrol", f'case "$1" in release) {finished} ;; esac\n')
    assert submit(exp).returncode == 0
    assert (entry(exp).accepted is not None, exp.slurm.calls("scancel"), held(exp)) == (True, [], [True])


def test_where_no_other_user_can_replace_it_no_job_is_held(exp: Exp) -> None:
    exp.root.chmod(0o755)
    assert submit(exp).returncode == 0
    assert held(exp) == [False]
