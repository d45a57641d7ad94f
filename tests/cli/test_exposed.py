"""Tests that an experiment which others can rename or replace is reported once, and refused if anybody can."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import second_user
from cli.test_planted import evalmon
from evalmon_agent.files.permissions import exposed
from experiments import Exp


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    """In a project directory, with nothing submitted yet."""
    found = Exp(tmp_path / "project")
    (found.root / "evalmon.yaml").write_text('{"poll_interval": 1}')
    (found.root / "r1" / "eval").mkdir(parents=True)
    (found.root / "r1" / "eval" / "t_epoch0.slurm").write_text("#!/bin/sh\ntrue\n")
    return found


def directory(exp: Exp) -> list[dict[str, str]]:
    """What doctor reports about the directory."""
    found = json.loads(evalmon(exp, "doctor", str(exp.root), "--json")[1])
    return [one for one in found if one["check"] == "directory"]


def test_a_private_directory_causes_no_warning(exp: Exp) -> None:
    assert list(exposed(str(exp.root))) == []
    assert evalmon(exp, "submit", str(exp.root))[::2] == (0, "")
    assert [one["level"] for one in directory(exp)] == ["ok"]


@pytest.mark.survives("S2")
def test_a_group_writable_directory_is_reported_by_the_first_submit_and_doctor(exp: Exp) -> None:
    group = second_user.share(exp.root, 0o2770)
    second_user.share(exp.root.parent, 0o2770)
    code, _, err = evalmon(exp, "submit", str(exp.root))
    said = f"{exp.root}: the group {group} can rename and replace what lies there"
    prevented = f"to prevent that, run: chmod +t {exp.root} (the same holds for {exp.root.parent})"
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith(f"evalmon: note: {said}; ")
    assert err.endswith(f"; {prevented}\n")
    assert evalmon(exp, "submit", str(exp.root))[::2] == (0, "")
    [_, found] = directory(exp)
    assert (found["level"], found["line"].startswith(said), found["advice"]) == ("warning", True, prevented)
    os.chmod(exp.root, 0o3770)
    assert [one["line"].partition(":")[0] for one in directory(exp)[1:]] == [str(exp.root.parent)]
    os.chmod(exp.root.parent, 0o3770)
    assert [one["level"] for one in directory(exp)] == ["ok"]


@pytest.mark.survives("S2")
@pytest.mark.parametrize("where", ["EXP", "above"])
def test_a_world_writable_directory_is_refused_unless_a_setting_allows_it(exp: Exp, where: str) -> None:
    place = exp.root if where == "EXP" else exp.root.parent
    place.chmod(0o777)
    for command in (["submit"], ["watch", "11"]):
        code, out, err = evalmon(exp, command[0], str(exp.root), *command[1:])
        assert (code, out, err.count("\n")) == (77, "", 1)
        assert err.startswith(
            f"evalmon: {place}: anybody can rename and replace what lies there; run: chmod +t {place};"
        )
        assert err.endswith(f"; or set allow_world_writable: true in {exp.root}/evalmon.yaml\n")
    assert exp.slurm.accepted() == []
    assert not exp.ours.exists()
    [_, found] = directory(exp)
    assert (found["level"], evalmon(exp, "doctor", str(exp.root))[0]) == ("problem", 77)
    (exp.root / "evalmon.yaml").write_text("allow_world_writable: true\n")
    code, _, err = evalmon(exp, "submit", str(exp.root))
    assert (code, "anybody can rename" in err) == (0, True)
    (exp.root / "evalmon.yaml").write_text("")
    assert evalmon(exp, "retry", str(exp.root))[0] == 77
    # Running monitors go on, and users may read.
    assert evalmon(exp, "complete", str(exp.root))[0] == 0
    assert evalmon(exp, "status", str(exp.root))[0] in {0, 1, 3}
    place.chmod(0o1777)
    assert evalmon(exp, "retry", str(exp.root))[0] == 0


def test_another_users_experiment_directory_is_reported(exp: Exp) -> None:
    theirs = exp.root / "theirs"
    theirs.mkdir()
    second_user.give(theirs)
    [first] = exposed(str(theirs))
    assert (first.path, first.whom, first.advice) == (
        str(theirs),
        f"its owner {second_user.name()}",
        "use a directory of your own",
    )


def test_a_group_whose_only_member_is_the_user_causes_no_warning(exp: Exp) -> None:
    os.chown(exp.root, -1, os.getgid())
    os.chmod(exp.root, 0o2775)
    assert list(exposed(str(exp.root))) == []
