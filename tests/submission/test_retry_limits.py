"""Tests the time and memory of a retry: never less than before, never more than available, in the script's terms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.figures import Figures
from evalmon_agent.slurm.sbatch import by_long_name
from evalmon_agent.submission.retry_plan import Limits, exclude_options, memory_options, time_options
from evalmon_agent.tracking.records import Attempt
from evalmon_agent.words.durations import time_option
from evalmon_agent.words.sizes import parse_mem_option

MIB, GIB = 1024**2, 1024**3
NONE: dict[str, str] = {}


def test_a_timeout_gets_more_than_the_limit_that_slurm_reported() -> None:
    found = time_options({"time": "00:30:00"}, NONE, Attempt(time_limit_s=1800), Limits(), scale=1.5)
    assert (("--time=00:45:00",), ("time 00:30:00 -> 00:45:00",), "") == (found.argv, found.changes, found.why_not)
    rounded = time_options(NONE, NONE, Attempt(time_limit_s=60), Limits(), scale=1.5)
    assert (("--time=00:02:00",), ("time 00:01:00 -> 00:02:00 (rounded up to minutes)",)) == (
        rounded.argv,
        rounded.changes,
    )
    cut = time_options(NONE, NONE, Attempt(time_limit_s=60), Limits(time_s=75), scale=1.5)
    assert ("time 00:01:00 -> 00:01:15",) == cut.changes


@pytest.mark.parametrize(("whole_s", "expected"), [(None, "00:45:00"), (2000.0, "00:45:00"), (7200.0, "02:12:00")])
def test_the_pace_of_the_samples_decides_if_it_needs_more(whole_s: float | None, expected: str) -> None:
    had = Attempt(time_limit_s=1800, elapsed_s=1830)
    found = time_options({"time": "00:30:00"}, NONE, had, Limits(), scale=1.5, in_all_s=whole_s)
    assert (f"--time={expected}",) == found.argv


@pytest.mark.parametrize(
    ("had", "earlier", "expected"),
    [
        (Attempt(), {"time": "60"}, "01:30:00"),
        (Attempt(), NONE, "00:15:00"),
        (Attempt(elapsed_s=1200.0), {"time": "60"}, "01:30:00"),
        (Attempt(time_limit_s=7200), {"time": "60"}, "03:00:00"),
    ],
)
def test_the_earlier_limit_is_slurms_else_the_options_else_the_scripts(
    had: Attempt, earlier: dict[str, str], expected: str
) -> None:
    assert (f"--time={expected}",) == time_options({"time": "10"}, earlier, had, Limits(), scale=1.5).argv


def test_the_time_is_lowered_to_the_partitions_limit_and_not_raised_beyond_it() -> None:
    cut = time_options(NONE, NONE, Attempt(time_limit_s=3000), Limits(time_s=3600), scale=2)
    assert ("--time=01:00:00",) == cut.argv
    at_it = time_options(NONE, NONE, Attempt(time_limit_s=3600), Limits(time_s=3600), scale=2)
    assert "it already had the partition's limit of 01:00:00" in at_it.why_not


def test_a_larger_request_in_the_changed_script_is_used() -> None:
    found = time_options({"time": "2:00:00"}, NONE, Attempt(time_limit_s=1800), Limits(), scale=1.5)
    assert ("--time=02:00:00",) == found.argv


def test_a_failed_eval_keeps_an_earlier_retrys_limits_and_otherwise_the_scripts_apply() -> None:
    assert () == time_options({"time": "10"}, NONE, Attempt(time_limit_s=600), Limits(), scale=None).argv
    assert ("--time=00:45:00",) == time_options({"time": "10"}, {"time": "45"}, Attempt(), Limits(), scale=None).argv
    assert () == memory_options({"mem": "1G"}, NONE, Attempt(), Limits(), scale=None).argv
    assert ("--mem=2048M",) == memory_options({"mem": "1G"}, {"mem": "2G"}, Attempt(), Limits(), scale=None).argv


def test_excluded_nodes_are_added_to_those_of_the_script_and_earlier_retries() -> None:
    found = exclude_options({"exclude": "n[1-2,5],m1"}, {"exclude": "n[1-2,5],m1,n8"}, "n7,n8")
    assert (("--exclude=n[1-2,5],m1,n8,n7",), ("excluding n7,n8",)) == (found.argv, found.changes)
    assert (("--exclude=n7",), ("excluding n7",)) == (
        (alone := exclude_options(NONE, NONE, "n7")).argv,
        alone.changes,
    )
    later = exclude_options({"exclude": "n1"}, {"exclude": "n1,n7"}, "")
    assert (("--exclude=n1,n7",), ()) == (later.argv, later.changes)
    assert () == exclude_options({"exclude": "n1"}, NONE, "").argv


def test_a_file_of_excluded_nodes_cannot_be_extended() -> None:
    found = exclude_options({"exclude": "/home/me/bad_nodes"}, NONE, "n7")
    assert "excludes the nodes listed in /home/me/bad_nodes; add n7 to that file" in found.why_not


@pytest.mark.parametrize("kind", ["mem", "mem-per-cpu", "mem-per-gpu"])
def test_memory_grows_in_the_unit_of_the_script(kind: str) -> None:
    found = memory_options({kind: "1000"}, NONE, Attempt(), Limits(), scale=1.5)
    assert ((f"--{kind}=1500M",), (f"{kind} 1000M -> 1500M",)) == (found.argv, found.changes)


def test_without_a_memory_option_it_grows_per_cpu_from_accountings_value() -> None:
    found = memory_options(
        NONE, NONE, Attempt(cpus=4, accounted=Figures(memory_requested_bytes=2 * GIB)), Limits(), scale=2
    )
    assert ("--mem-per-cpu=1024M",) == found.argv
    assert "is unknown" in memory_options(NONE, NONE, Attempt(), Limits(), scale=2).why_not


def test_memory_never_exceeds_the_nodes() -> None:
    node = Limits(node_memory_bytes=16 * GIB)
    one = Attempt(cpus=4, gpus={"gpu": 2}, node_list="n1")
    assert ("--mem=16384M",) == memory_options({"mem": "12G"}, NONE, one, node, scale=2).argv
    assert ("--mem-per-cpu=4096M",) == memory_options({"mem-per-cpu": "3G"}, NONE, one, node, scale=2).argv
    assert ("--mem-per-gpu=8192M",) == memory_options({"mem-per-gpu": "6G"}, NONE, one, node, scale=2).argv
    assert "all of a node's memory" in memory_options({"mem": "16G"}, NONE, one, node, scale=2).why_not
    assert "all the memory of its nodes" in memory_options({"mem": "0"}, NONE, one, node, scale=2).why_not


SECONDS = st.integers(1, 10**6).map(float)
MAYBE = st.none() | SECONDS


@given(had_s=SECONDS, script=st.none() | st.integers(1, 10**4), earlier=st.none() | st.integers(1, 10**4),
       most=MAYBE, scale=st.floats(1, 100))  # fmt: skip
def test_time_never_shrinks_and_is_valid_for_sbatch(
    had_s: float, script: int | None, earlier: int | None, most: float | None, scale: float
) -> None:
    options = [{"time": str(minutes)} if minutes else {} for minutes in (script, earlier)]
    found = time_options(*options, Attempt(time_limit_s=had_s), Limits(time_s=most), scale=scale)
    [option] = found.argv
    asked_s = time_option(by_long_name([option])["time"])
    assert asked_s is not None
    assert asked_s >= had_s
    if most is not None and not found.why_not:
        assert asked_s <= max(most + 60, (script or 0) * 60)
    assert bool(found.changes) != bool(found.why_not)


@given(had=st.integers(MIB, 10**13), node=st.none() | st.integers(MIB, 10**13), scale=st.floats(1, 100),
       kind=st.sampled_from(["mem", "mem-per-cpu", "mem-per-gpu"]), parts=st.none() | st.integers(1, 512))  # fmt: skip
def test_memory_never_shrinks_and_is_valid_for_sbatch(
    had: int, node: int | None, scale: float, kind: str, parts: int | None
) -> None:
    script = {kind: f"{had // MIB}M"}
    given_to = Attempt(cpus=parts, gpus={"gpu": parts} if parts else None, node_list="n1")
    found = memory_options(script, {}, given_to, Limits(node_memory_bytes=node), scale=scale)
    [option] = found.argv
    asked = parse_mem_option(by_long_name([option])[kind])
    assert asked is not None
    assert asked >= had // MIB * MIB
    assert bool(found.changes) != bool(found.why_not)
