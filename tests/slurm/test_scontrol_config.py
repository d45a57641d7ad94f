"""Tests the parsing of the cluster's configuration and version."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.scontrol import gives_whole_nodes, parse_config, parse_version

TEXT = """\
Configuration data as of 2026-11-25T18:17:42
AccountingStorageBackupHost = (null)
AccountingStorageType   = accounting_storage/slurmdbd
AccountingStorageUser   = N/A
MinJobAge               = 300 sec
SchedulerParameters     = sched_interval=1,batch_sched_delay=0
MailProg                =

Cgroup Support Configuration:
CgroupPlugin            = cgroup/v1

Slurmctld(primary) at vm is UP
"""


def test_each_line_is_a_name_with_a_value() -> None:
    assert parse_config(TEXT) == {
        "AccountingStorageBackupHost": "",
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageUser": "",
        "MinJobAge": "300 sec",
        "SchedulerParameters": "sched_interval=1,batch_sched_delay=0",
        "MailProg": "",
        "CgroupPlugin": "cgroup/v1",
    }


@pytest.mark.parametrize(("kind", "expected"), [("linear", True), ("cons_tres", False)])
def test_a_cluster_that_gives_whole_nodes_is_recognised(kind: str, expected: bool) -> None:
    text = (
        f"SchedulerType           = sched/backfill\nSelectType              = select/{kind}\nSelectTypeParameters = x\n"
    )
    assert expected == gives_whole_nodes(parse_config(text))
    assert not gives_whole_nodes({})


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("slurm-wlm 22.05.8", (22, 5)),
        ("slurm 24.11.5\n", (24, 11)),
        ("slurm 25.05.0-0rc1", (25, 5)),
        ("slurm 18.08.9", (18, 8)),
        ("sbatch: command not found", None),
        ("", None),
    ],
)
def test_a_version_is_parsed_as_year_and_month(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


@given(st.text())
def test_parsing_never_raises(text: str) -> None:
    parse_config(text)
    parse_version(text)
