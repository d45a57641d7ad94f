"""Tests that lists of nodes are expanded, and any other text stays unchanged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.scontrol import hostnames


@pytest.mark.parametrize(
    ("node_list", "expected"),
    [
        ("n1", ["n1"]),
        ("n1,n2", ["n1", "n2"]),
        ("node[01-03]", ["node01", "node02", "node03"]),
        ("gpu[01-03,7],login1", ["gpu01", "gpu02", "gpu03", "gpu7", "login1"]),
        ("rack[0-1]n[8-9]x", ["rack0n8x", "rack0n9x", "rack1n8x", "rack1n9x"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        ("n1,n1", ["n1"]),
        ("n[3-1]", ["n[3-1]"]),
        ("n[1-99999]", ["n[1-99999]"]),
        ("n[1-5000,5001-10001]", ["n[1-5000,5001-10001]"]),
        ("a[1", ["a[1"]),
        ("a[x]", ["a[x]"]),
        ("a[\u0661]", ["a[\u0661]"]),
    ],
)
def test_a_node_list_is_expanded_and_other_text_unchanged(node_list: str, expected: list[str]) -> None:
    assert expected == list(hostnames(node_list))


@given(st.text(alphabet="an0129[]-,x", max_size=30))
def test_any_text_is_expanded_within_limits(text: str) -> None:
    assert len(hostnames(text)) <= 10_000
