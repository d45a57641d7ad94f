"""Tests how monitor jobs are submitted: small, where the evals run, never with a GPU."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import second_user
from evalmon_agent.jobs.monitor_jobs import MonitorJobKind, cut_time, options, placed, script
from evalmon_agent.settings import MonitorJobSettings, Settings
from evalmon_agent.slurm.sinfo import Partition, is_exclusive

MAIN = Partition("main", True, 4 * 3600.0, False)
LONG = Partition("long", False, None, False)
SHORT = Partition("short", False, 1800.0, True)
ALL = (LONG, MAIN, SHORT)
JOB = MonitorJobSettings(time="1-00:00:00", mem="200M")


def place(job: MonitorJobSettings) -> tuple[str | None, str | None, str | None]:
    return job.partition, job.account, job.qos


def submitted(
    job: MonitorJobSettings = JOB, kind: MonitorJobKind = "sidecar", afterany: Sequence[str] = ()
) -> list[str]:
    return options(job, kind, ALL, afterany=afterany)


def test_the_most_common_options_of_the_evals_are_used() -> None:
    found = [{"partition": "a", "account": "x"}, {"partition": "b"}, {"partition": "b", "qos": ""}]
    assert ("b", "x", None) == place(placed(JOB, found, {}))


def test_sbatchs_variables_take_precedence_over_the_scripts() -> None:
    environ = {"SBATCH_PARTITION": "env", "SBATCH_ACCOUNT": "", "SBATCH_QOS": "high"}
    assert ("env", "x", "high") == place(placed(JOB, [{"partition": "a", "account": "x"}], environ))


def test_options_that_the_evals_leave_out_are_left_out() -> None:
    assert placed(JOB, [], {}) == JOB
    assert [] == [option for option in submitted() if option.startswith(("--partition", "--account", "--qos"))]


def test_the_options_of_a_monitor_job() -> None:
    expected = [
        "--job-name=evalmon-sidecar",
        "--output=/dev/null",
        "--time=240",
        "--mem=200M",
        "--nodes=1",
        "--ntasks=1",
        "--requeue",
        "--partition=main",
        "--account=a",
        "--qos=q",
        "--time-min=10",
    ]
    assert expected == submitted(placed(JOB, [{"partition": "main", "account": "a", "qos": "q"}], {}))


def test_settings_take_precedence_over_the_evals_options() -> None:
    job = MonitorJobSettings(
        time="5", mem="1G", partition="mine", account="acct", qos="low", extra=["--nice", "--comment=x y"]
    )
    found = submitted(placed(job, [{"partition": "p", "account": "a", "qos": "q"}], {}))
    assert ["--partition=mine", "--account=acct", "--qos=low", "--nice", "--comment=x y"] == found[-5:]


def test_a_gpu_is_never_requested() -> None:
    evals = [{"gres": "gpu:1", "gpus": "1", "constraint": "a100", "partition": "gpu"}]
    found = submitted(placed(JOB, evals, {"SBATCH_GRES": "gpu"}))
    assert not any("gres" in option or "gpus" in option for option in found)


def test_a_completion_job_depends_on_all_evals_whatever_their_end() -> None:
    assert "--dependency=afterany:1:2_7:3" in submitted(kind="completion", afterany=["1", "2_7", "3"])
    assert not any("dependency" in option for option in submitted(kind="completion"))


@pytest.mark.parametrize(
    ("wanted", "partition", "expected"),
    [
        ("1-00:00:00", None, "240"),
        ("1-00:00:00", "main", "240"),
        ("1-00:00:00", "long", "1-00:00:00"),
        ("1-00:00:00", "unknown", "1-00:00:00"),
        ("1-00:00:00", "long,main,short", "30"),
        ("04:00:00", "main", "04:00:00"),
        ("00:30:00", "short", "00:30:00"),
        ("0", "main", "240"),
    ],
)
def test_the_time_limit_is_lowered_to_the_partitions(wanted: str, partition: str | None, expected: str) -> None:
    assert expected == cut_time(wanted, partition, ALL)


def test_a_limit_below_a_minute_is_a_minute() -> None:
    assert "1" == cut_time("30", "tiny", [Partition("tiny", False, 30.0, False)])


def test_without_known_partitions_the_time_limit_is_kept() -> None:
    assert "1-00:00:00" == cut_time("1-00:00:00", None, [])


@pytest.mark.parametrize(
    ("partition", "expected"), [("short", True), ("main", False), (None, False), ("main,short", True), ("gone", False)]
)
def test_partitions_that_give_whole_nodes_are_recognised(partition: str | None, expected: bool) -> None:
    assert expected is is_exclusive(partition, ALL)


def test_select_linear_gives_whole_nodes_unless_a_partition_shares_them() -> None:
    shared = Partition("shared", False, None, False, oversubscribed=True)
    linear = {where: is_exclusive(where, (*ALL, shared), linear=True) for where in ("main", "long", "shared", None)}
    assert {"main": True, "long": True, "shared": False, None: True} == linear
    assert is_exclusive(None, (), linear=True)


@pytest.mark.parametrize(
    ("limit", "expected"), [("240", ["--time-min=10"]), ("10", []), ("5", []), ("0", ["--time-min=10"])]
)
def test_a_sidecar_has_a_minimum_time(limit: str, expected: list[str]) -> None:
    job = MonitorJobSettings(time=limit, mem="200M", partition="long")
    assert expected == [option for option in submitted(job) if option.startswith("--time-min")]
    assert not any(option.startswith("--time-min") for option in submitted(job, "completion"))


def test_the_default_resources_are_small() -> None:
    settings = Settings()
    assert ("200M", "500M") == (settings.sidecar.mem, settings.completion.mem)


@pytest.mark.survives("S5")
@pytest.mark.parametrize("experiment", ["/exp", '/it\'s $(touch canary)\n`x` "%j"', "--help", "-x"])
def test_a_monitor_jobs_script_is_self_contained(experiment: str, tmp_path: Path) -> None:
    fake = tmp_path / "py thon"
    fake.write_text('#!/bin/sh\nprintf \'%s\\0\' "$SLURM_CONF" "$TZ" "$@"\n')
    fake.chmod(0o700)
    environ = {"PATH": os.defpath, "TZ": "Europe/Berlin", "SECRET": "x", "SLURM_CONF": "/etc/s l'urm.conf"}
    text = script("sidecar", experiment, interpreter=str(fake), token="5f3a", experiment_id="e1d2", environ=environ)
    assert text.startswith("#!/bin/sh\n")
    assert "SECRET" not in text
    done = subprocess.run(["sh", "-c", text], env={}, capture_output=True, check=True, cwd=tmp_path)
    assert os.listdir(tmp_path) == ["py thon"]
    ours = ["--token", "5f3a", "--experiment-id", "e1d2"]
    options = ["-E", "-P", "-m", "evalmon_agent", "sidecar", *ours, "--", experiment]
    assert ["/etc/s l'urm.conf", "Europe/Berlin", *options] == done.stdout.decode().split("\0")[:-1]
    assert ["py thon"] == os.listdir(tmp_path)


def test_successors_are_submitted_to_the_same_place_as_the_first_job() -> None:
    """A monitor job knows the submitting shell's SBATCH_* only by its script; sbatch inside it gets options."""
    users = {"PATH": "/usr/bin", "SBATCH_PARTITION": "gpu", "SBATCH_ACCOUNT": "lab", "SBATCH_QOS": "a b"}
    text = script("sidecar", "/exp", interpreter="/py", token="5f3a", experiment_id=None, environ=users)
    lines = text.replace("exec ", "env -0; exec true ").encode()
    done = subprocess.run(["sh"], input=lines, env={}, capture_output=True, check=True)
    inside = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if "=" in entry)
    assert place(placed(JOB, [{"partition": "other"}], inside)) == ("gpu", "lab", "a b")


class OneOfOurs:
    """A monitor job on a node, as Slurm runs its script: with a umask of 000 and its output discarded."""

    def __init__(self, directory: Path) -> None:
        self.ours = directory / "a % {b}" / "evalmon"
        self.ours.mkdir(parents=True, mode=0o700)
        (self.ours / "registry.jsonl").touch()
        (self.ours / "experiment.json").write_text('{"id":"e1d2","root":"/x"}\n')
        self.output = self.ours / "sidecar-7.out"
        self._interpreter = directory / "python"
        self._interpreter.write_text("#!/bin/sh\numask\necho oh >&2\nexit 5\n")
        self._interpreter.chmod(0o700)

    def run(self, shell: str = "sh", **more: Any) -> int:
        experiment, interpreter = str(self.ours.parent), str(self._interpreter)
        text = script(
            "sidecar", experiment, interpreter=interpreter, token="t", experiment_id="e1d2", environ={}, **more
        )
        null = subprocess.DEVNULL
        argv = [shell, "-c", f"umask 0; {text}"]
        done = subprocess.run(argv, env={"SLURM_JOB_ID": "7"}, check=False, stdin=null, stdout=null, stderr=null)
        return done.returncode


@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
@pytest.mark.parametrize(("more", "mode"), [({}, 0o600), ({"group_readable": True}, 0o640)])
def test_a_monitor_jobs_output_is_private_whatever_the_umask(
    tmp_path: Path, shell: str, more: dict[str, bool], mode: int
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    job = OneOfOurs(tmp_path)
    for _ in range(2):  # a requeue appends
        assert job.run(shell, **more) == 5
    # The job and what it submits have the umask that Slurm gave it.
    assert (job.output.read_text(), job.output.stat().st_mode & 0o777) == ("0000\noh\n" * 2, mode)


def test_a_missing_interpreter_is_reported_in_the_output(tmp_path: Path) -> None:
    job = OneOfOurs(tmp_path)
    job._interpreter.unlink()
    assert job.run() == 127
    assert "not found" in job.output.read_text()


def test_a_monitor_job_whose_output_cannot_be_written_continues(tmp_path: Path) -> None:
    job = OneOfOurs(tmp_path)
    job.output.mkdir()
    assert job.run() == 5
    shutil.rmtree(job.ours)
    assert job.run() == 5


@pytest.mark.survives("S1")
@pytest.mark.parametrize(
    "how",
    [
        "a link to one's own",
        "a link to another experiment of one's own",
        "another user's",
        "one's own that others can write",
    ],
)
def test_a_directory_put_in_place_of_evalmons_gets_no_output(tmp_path: Path, how: str) -> None:
    """The group can rename EXP/evalmon and put something else there."""
    job = OneOfOurs(tmp_path)
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o700)
    (precious / "file").write_text("mine")
    job.ours.rename(tmp_path / "away")
    if how.startswith("a link"):
        job.ours.symlink_to(precious)
        if "experiment" in how:
            (precious / "registry.jsonl").touch()
            (precious / "experiment.json").write_text('{"id":"e1d3","root":"e1d2"}\n')
    else:
        job.ours.mkdir()
        (job.ours / "registry.jsonl").touch()
        job.output.symlink_to(precious / "file")
        if how.startswith("another"):
            second_user.give(job.ours)
        else:
            os.chmod(job.ours, 0o770)
    there = sorted(os.listdir(precious))
    assert job.run() == 5
    assert (sorted(os.listdir(precious)), (precious / "file").read_text()) == (there, "mine")
