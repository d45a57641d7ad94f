"""Tests which files belong to this node."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.agent.job import first_of, host_suffix


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("n[1-4]", "n1"),
        ("n[01-03,7],m1", "n01"),
        ("n[7,9]", "n7"),
        ("gpu[003-004]-ib", "gpu003-ib"),
        ("r[1-2]n[3-4]", "r1n3"),
        ("", ""),
    ],
)
def test_the_first_host_of_a_list_is_found(nodes: str, expected: str) -> None:
    assert expected == first_of(nodes)


@given(st.text(alphabet="n0123[]-,x", max_size=30))
def test_any_text_gives_a_first_host_or_none(nodes: str) -> None:
    assert not set(first_of(nodes)) & set("[],")


@pytest.mark.parametrize(
    ("node", "expected"),
    [("n1", ""), ("n2", ".n2"), ("../../x", ".______x".replace("______", ".._.._")), ("a b\n", ".a_b_")],
)
def test_other_nodes_have_their_own_files(node: str, expected: str) -> None:
    environ = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURMD_NODENAME": node, "SLURM_NODEID": "0"}
    assert expected == host_suffix(environ, hostname="h")


def test_file_names_are_plain_outside_a_job_and_on_a_single_node() -> None:
    assert host_suffix({}, hostname="h") == ""
    assert host_suffix({"SLURM_JOB_ID": "7"}, hostname="h") == ""
    assert host_suffix({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "h"}, hostname="h") == ""
