"""Tests how many GPUs a submission requests and for how long, by its options."""

from __future__ import annotations

import pytest

from evalmon_agent.slurm.sbatch import by_long_name, in_effect
from evalmon_agent.slurm.sinfo import Partition, longest_s
from evalmon_agent.submitting.preview import gpus, time_limit_s

HOUR = 3600.0
PARTITIONS = (
    Partition("main", True, 24 * HOUR, False, default_time_s=HOUR),
    Partition("short", False, HOUR, False),
    Partition("endless", False, None, False),
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", 0),
        ("--gres=gpu:2", 2),
        ("--gres=gpu", 1),
        ("--gres=gpu:a100", 1),
        ("--gres=gpu:a100:4", 4),
        ("--gres=gres/gpu:2", 2),
        ("--gres=craynetwork:1,gpu:a100:1,gpu:v100:2", 3),
        ("--gres=none", 0),
        ("--gres=shard:4", 0),
        ("--gres=gpumem:4", 0),
        ("--gres=gpu:2 -N 3", 6),
        ("--gres=gpu:2 -N 2-2", 4),
        ("--gres=gpu:2 -N 1-4", None),
        ("--gres=gpu:1 -n 8", None),
        ("--gres=gpu:1 -n 1", 1),
        ("--gres=gpu:1 -n 8 -N 1", 1),
        ("-G 3", 3),
        ("-G a100:3 -N 1-4", 3),
        ("--gpus=a100:1,v100:2", 3),
        ("--gpus-per-node=a100:2 -N 2", 4),
        ("--gpus-per-task=1 -n 4", 4),
        ("--gpus-per-task=2 --ntasks-per-node=3 -N 2", 12),
        ("--gpus-per-task=a100:1", 1),
        ("--tres-per-task=cpu:2,gres/gpu:a100:1 -n 2", 2),
        ("--gpus-per-socket=1", None),
        ("-N 1-4", 0),
    ],
)
def test_gpus_are_counted_for_the_whole_job(options: str, expected: int | None) -> None:
    assert gpus(by_long_name(options.split())) == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("-t 30", HOUR / 2),
        ("-t 0", None),
        ("-t UNLIMITED -p short", None),
        ("", HOUR),
        ("-p short", HOUR),
        ("-p main,short", HOUR),
        ("-p endless", None),
        ("-p short,endless", None),
        ("-p unheard-of", None),
    ],
)
def test_without_its_own_limit_a_job_gets_the_partitions(options: str, expected: float | None) -> None:
    assert time_limit_s(by_long_name(options.split()), PARTITIONS) == expected


def test_the_longest_time_is_that_of_the_most_generous_partition() -> None:
    given = {name: longest_s(name, PARTITIONS) for name in ("short", "main,short", "short,endless", "x")}
    assert given == {"short": HOUR, "main,short": 24 * HOUR, "short,endless": None, "x": None}
    assert longest_s(None, PARTITIONS) == 24 * HOUR


def test_options_precede_the_environment_and_that_the_script() -> None:
    environ = {"SBATCH_TIMELIMIT": "60", "SBATCH_GRES": "gpu:2", "SBATCH_PARTITION": "", "SBATCH_FOO": "1", "HOME": "/"}
    script = {"time": "10", "partition": "main", "gres": "gpu:1"}
    assert in_effect(script, environ, ["--time=90"]) == {"time": "90", "partition": "main", "gres": "gpu:2"}
