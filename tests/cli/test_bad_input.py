"""Tests that bad input gets one clear line and its exit status, and changes and submits nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from as_root import not_as_root
from fake_slurm import FakeSlurm

SCRIPT = "#!/bin/bash\n#SBATCH --time=5\ntrue\n"


class Study:
    """An experiment with one good script, and a fake Slurm."""

    def __init__(self, directory: Path) -> None:
        self.slurm = FakeSlurm(directory / "fake")
        self.root = directory / "study"
        self.root.mkdir()
        self.add("r1/eval/good_epoch0/cell.slurm")

    def add(self, path: str, text: str = SCRIPT) -> Path:
        script = self.root / path
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(text)
        return script

    def evalmon(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "evalmon_agent", *words],
            check=False,
            env={**self.slurm.environ, **env},
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def tree(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))

    def refuses(self, status: int, *words: str, says: str, lines: int = 1, **env: str) -> None:
        """Check that the command ends with this status and message, and changes and submits nothing."""
        before = self.tree()
        done = self.evalmon(*words, **env)
        assert (done.returncode, done.stdout) == (status, "")
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == lines
        assert "Traceback" not in done.stderr
        assert "/proc/self/fd" not in done.stdout + done.stderr
        assert self.tree() == before
        assert self.slurm.accepted() == []


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path)


def test_a_missing_experiment_directory_is_refused(study: Study) -> None:
    study.refuses(2, "submit", "nowhere", says="nowhere: no such directory")
    study.refuses(2, "submit", os.devnull, says="/dev/null: not a directory")


def test_a_directory_without_scripts_is_refused(study: Study) -> None:
    (study.root / "r1/eval/good_epoch0/cell.slurm").unlink()
    study.refuses(2, "submit", ".", says="no eval scripts")


def test_a_missing_script_is_refused(study: Study) -> None:
    study.refuses(
        2, "submit", ".", "nope.slurm", says=f"nope.slurm: no such script, neither in {study.root} nor in {study.root}"
    )
    study.refuses(2, "submit", ".", "r9/*.slurm", "nope.slurm", says="r9/*.slurm: no such script", lines=2)


def test_watch_refuses_options_that_its_table_cannot_show(study: Study) -> None:
    study.refuses(2, "status", ".", "--watch", "--json", says="--watch shows a table in a terminal; leave out --json.")
    study.refuses(2, "status", ".", "--watch", "--all", says="--watch shows a table in a terminal; leave out --all.")


def test_a_script_without_a_shebang_and_one_with_dos_line_ends_get_a_line_each(study: Study) -> None:
    study.add("r1/eval/bare_epoch0/cell.slurm", "true\n")
    study.add("r1/eval/dos_epoch0/cell.slurm", SCRIPT.replace("\n", "\r\n"))
    study.refuses(2, "submit", ".", says="bare_epoch0/cell.slurm: no #! line", lines=2)


@not_as_root
def test_an_unreadable_script_is_refused(study: Study) -> None:
    study.add("r1/eval/shut_epoch0/cell.slurm").chmod(0)
    study.refuses(2, "submit", ".", says="cannot be read (Permission denied)")


@pytest.mark.survives("S1")
def test_a_fifo_in_place_of_a_script_is_refused(study: Study) -> None:
    os.mkfifo(study.root / "r1/eval/pipe.slurm")
    study.refuses(2, "submit", ".", says="not a file")


def test_two_evals_with_one_name_are_refused(study: Study) -> None:
    study.add("r1/eval/good_epoch0.slurm")
    study.refuses(2, "submit", ".", says="are both named r1/good/epoch0")


def test_missing_slurm_programs_are_reported(study: Study) -> None:
    study.refuses(69, "submit", ".", says="sbatch is not on PATH", PATH="/nonexistent")


@pytest.mark.survives("F15")
def test_a_slurm_that_does_not_answer_is_reported(study: Study) -> None:
    study.slurm.fail("squeue", "slurm_load_jobs error: Unable to contact slurm controller (connect failure)")
    study.refuses(69, "submit", ".", says="Unable to contact slurm controller")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nonsense: 1\n", "nonsense"),
        ("poll_interval: soon\n", "poll_interval"),
        ("poll_interval: 5\n", "below 60"),
        ("sidecar: {time: 1:30:00}\n", "sidecar.time"),
        ("a: [b\n", "not valid YAML"),
    ],
)
def test_invalid_settings_are_refused(study: Study, text: str, says: str) -> None:
    (study.root / "evalmon.yaml").write_text(text)
    study.refuses(78, "submit", ".", says=says, EVALMON_ALLOW_FAST_POLLING="0")


def test_settings_are_checked_before_scripts_and_scripts_before_slurm(study: Study) -> None:
    (study.root / "evalmon.yaml").write_text("nonsense: 1\n")
    study.add("r1/eval/bare_epoch0/cell.slurm", "true\n")
    study.refuses(78, "submit", ".", says="nonsense", PATH="/nonexistent")
    (study.root / "evalmon.yaml").unlink()
    study.refuses(2, "submit", ".", says="no #! line", PATH="/nonexistent")


@pytest.mark.survives("S2")
def test_a_monitor_directory_that_others_can_write_is_refused(study: Study) -> None:
    (study.root / "evalmon").mkdir()
    (study.root / "evalmon").chmod(0o777)
    study.refuses(2, "submit", ".", says="chmod go-w")


@pytest.mark.parametrize("command", ["status", "report", "stop"])
def test_commands_refuse_an_experiment_without_submissions(study: Study, command: str) -> None:
    study.refuses(2, command, ".", says="nothing is monitored here; start with: evalmon submit")


@pytest.mark.survives("S6")
@pytest.mark.parametrize("job_id", ["1;rm -rf x", "../x", "12a", "", "1_", "-1"])
def test_job_ids_are_checked_before_any_program_starts(study: Study, job_id: str) -> None:
    study.refuses(2, "metrics", "--", job_id, says="is not a job id")
    assert study.slurm.calls() == []


def test_run_outside_a_job_runs_the_command_and_says_so_once(study: Study) -> None:
    done = study.evalmon("run", "--", "sh", "-c", "sleep 0.3; echo out; exit 5")
    assert (done.returncode, done.stdout) == (5, "out\n")
    assert done.stderr.count("nothing is reported") == 1


@pytest.mark.parametrize("words", [[], ["nonsense"], ["submit"], ["submit", ".", "--mode", "other"], ["metrics"]])
def test_wrong_usage_ends_with_2(study: Study, words: list[str]) -> None:
    done = study.evalmon(*words)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


@pytest.mark.parametrize(
    "command",
    [
        "submit",
        "watch",
        "status",
        "report",
        "metrics",
        "stop",
        "template",
        "sidecar",
        "complete",
        "run",
        "hook",
        "sample",
    ],
)
def test_every_command_has_help(study: Study, command: str) -> None:
    done = study.evalmon(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert command in done.stdout


def test_a_dry_run_changes_nothing(study: Study) -> None:
    before = study.tree()
    done = study.evalmon("submit", ".", "--dry-run")
    told = "would submit r1/good/epoch0\nin all: 1 eval, 2 monitor jobs, 0.0 GPU-hours requested\n"
    assert (done.returncode, done.stdout) == (0, told)
    assert (study.tree(), study.slurm.accepted()) == (before, [])


def test_json_output_is_only_json(study: Study) -> None:
    done = study.evalmon("submit", ".", "--json")
    assert [one["name"] for one in json.loads(done.stdout)["submitted"]] == ["r1/good/epoch0"]
    assert set(json.loads(study.evalmon("status", ".", "--json").stdout)) >= {"schema", "evals", "verdicts", "counts"}


def test_debug_shows_where_an_error_came_from(study: Study) -> None:
    done = study.evalmon("--debug", "submit", "nowhere")
    assert "Traceback" in done.stderr


@pytest.mark.survives("S11", "S12")
def test_the_users_slurm_variables_have_no_effect_and_no_secret_is_written(study: Study) -> None:
    secret = "hf_canary_0123456789"
    done = study.evalmon("submit", ".", HF_TOKEN=secret, SQUEUE_FORMAT="%j", SACCT_FORMAT="JobName")
    assert done.returncode == 0
    written = [path for path in study.root.rglob("*") if path.is_file()]
    assert [path for path in written if secret.encode() in path.read_bytes()] == []
