"""How our own jobs are submitted: light, where the evals run, never with a GPU."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from evalmon_agent.settings import OurJob, Settings
from evalmon_agent.slurm.sinfo import Partition
from evalmon_agent.submission.our_jobs import (
    Place,
    cut_time,
    is_exclusive,
    options,
    pattern,
    place_of,
    script,
    time_min,
)

MAIN = Partition("main", True, 4 * 3600.0, False)
LONG = Partition("long", False, None, False)
SHORT = Partition("short", False, 1800.0, True)
ALL = (LONG, MAIN, SHORT)
JOB = OurJob(time="1-00:00:00", mem="200M")
NOWHERE = Place()


def submitted(job: OurJob = JOB, place: Place = NOWHERE, **more: object) -> list[str]:
    known = {"kind": "sidecar", "output": "/exp/evalmon/sidecar-{j}.out", "time_limit": "240", **more}
    return options(job, place, **known)


def test_the_commonest_place_of_the_evals_is_taken_over() -> None:
    found = [{"partition": "a", "account": "x"}, {"partition": "b"}, {"partition": "b", "qos": ""}]
    assert Place("b", "x", None) == place_of(found, {})


def test_sbatchs_own_variables_stand_above_the_scripts() -> None:
    environ = {"SBATCH_PARTITION": "env", "SBATCH_ACCOUNT": "", "SBATCH_QOS": "high"}
    assert Place("env", "x", "high") == place_of([{"partition": "a", "account": "x"}], environ)


def test_where_the_evals_say_nothing_we_say_nothing() -> None:
    assert NOWHERE == place_of([], {})
    assert [] == [option for option in submitted() if option.startswith(("--partition", "--account", "--qos"))]


def test_the_options_of_a_job_of_ours() -> None:
    expected = [
        "--job-name=evalmon-sidecar",
        "--output=/exp/evalmon/sidecar-%j.out",
        "--open-mode=append",
        "--time=240",
        "--mem=200M",
        "--nodes=1",
        "--ntasks=1",
        "--requeue",
        "--partition=p",
        "--account=a",
        "--qos=q",
    ]
    assert expected == submitted(place=Place("p", "a", "q"))


def test_what_is_set_stands_above_what_the_evals_have() -> None:
    job = OurJob(time="5", mem="1G", partition="mine", account="acct", qos="low", extra=["--nice", "--comment=x y"])
    found = submitted(job, Place("p", "a", "q"))
    assert ["--partition=mine", "--account=acct", "--qos=low", "--nice", "--comment=x y"] == found[-5:]


def test_a_gpu_is_never_taken_over() -> None:
    place = place_of([{"gres": "gpu:1", "gpus": "1", "constraint": "a100", "partition": "gpu"}], {"SBATCH_GRES": "gpu"})
    assert not any("gres" in option or "gpus" in option for option in submitted(place=place))


def test_a_completion_job_waits_for_all_evals_whatever_their_end() -> None:
    assert "--dependency=afterany:1:2_7:3" in submitted(kind="completion", afterany=["1", "2_7", "3"])
    assert not any("dependency" in option for option in submitted(kind="completion"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/exp/sidecar-{j}.out", "/exp/sidecar-%j.out"),
        ("/100% %j/x-{j}.out", "/100%% %%j/x-%j.out"),
        ("/{j}/x-{j}.out", "/{j}/x-%j.out"),
        ("/plain", "/plain"),
    ],
)
def test_percent_signs_of_a_path_are_no_patterns(path: str, expected: str) -> None:
    assert expected == pattern(path)


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
def test_the_time_is_cut_to_the_partitions_limit(wanted: str, partition: str | None, expected: str) -> None:
    assert expected == cut_time(wanted, partition, ALL)


def test_a_limit_below_a_minute_is_a_minute() -> None:
    assert "1" == cut_time("30", "tiny", [Partition("tiny", False, 30.0, False)])


def test_where_nobody_knows_the_partitions_nothing_is_cut() -> None:
    assert "1-00:00:00" == cut_time("1-00:00:00", None, [])


@pytest.mark.parametrize(
    ("partition", "expected"), [("short", True), ("main", False), (None, False), ("main,short", True), ("gone", False)]
)
def test_where_a_small_job_would_take_a_whole_node(partition: str | None, expected: bool) -> None:
    assert expected is is_exclusive(partition, ALL)


def test_select_linear_gives_whole_nodes_but_where_a_partition_shares_them() -> None:
    shared = Partition("shared", False, None, False, oversubscribed=True)
    linear = {where: is_exclusive(where, (*ALL, shared), linear=True) for where in ("main", "long", "shared", None)}
    assert {"main": True, "long": True, "shared": False, None: True} == linear
    assert is_exclusive(None, (), linear=True)


@pytest.mark.parametrize(
    ("limit", "expected"), [("240", ["--time-min=10"]), ("10", []), ("5", []), ("0", ["--time-min=10"])]
)
def test_a_sidecar_may_start_with_less_time(limit: str, expected: list[str]) -> None:
    assert expected == time_min(limit)


def test_the_defaults_are_light() -> None:
    settings = Settings()
    assert ("200M", "500M") == (settings.sidecar.mem, settings.completion.mem)


@pytest.mark.survives("S5")
@pytest.mark.parametrize("experiment", ["/exp", '/it\'s $(touch canary)\n`x` "%j"', "--help", "-x"])
def test_the_script_of_a_job_of_ours_stands_on_its_own(experiment: str, tmp_path: Path) -> None:
    fake = tmp_path / "py thon"
    fake.write_text('#!/bin/sh\nprintf \'%s\\0\' "$SLURM_CONF" "$TZ" "$@"\n')
    fake.chmod(0o700)
    environ = {"PATH": os.defpath, "TZ": "Europe/Berlin", "SECRET": "x", "SLURM_CONF": "/etc/s l'urm.conf"}
    text = script("sidecar", experiment, interpreter=str(fake), token="5f3a", experiment_id="e1d2", environ=environ)
    assert text.startswith("#!/bin/sh\n")
    assert "SECRET" not in text
    done = subprocess.run(["sh", "-c", text], env={}, capture_output=True, check=True, cwd=tmp_path)
    options = [
        "-E",
        "-P",
        "-m",
        "evalmon_agent",
        "sidecar",
        "--token",
        "5f3a",
        "--experiment-id",
        "e1d2",
        "--",
        experiment,
    ]
    assert ["/etc/s l'urm.conf", "Europe/Berlin", *options] == done.stdout.decode().split("\0")[:-1]
    assert ["py thon"] == os.listdir(tmp_path)


def test_where_the_first_submit_went_its_jobs_successors_go_too() -> None:
    """A job of evalmon's knows the submitting shell's SBATCH_* by its script alone; sbatch inside it gets options."""
    users = {"PATH": "/usr/bin", "SBATCH_PARTITION": "gpu", "SBATCH_ACCOUNT": "lab", "SBATCH_QOS": "a b"}
    text = script("sidecar", "/exp", interpreter="/py", token="5f3a", experiment_id=None, environ=users)
    lines = text.replace("exec ", "env -0; exec true ").encode()
    done = subprocess.run(["sh"], input=lines, env={}, capture_output=True, check=True)
    inside = dict(entry.split("=", 1) for entry in done.stdout.decode().split("\0") if "=" in entry)
    assert place_of([{"partition": "other"}], inside) == Place("gpu", "lab", "a b")
