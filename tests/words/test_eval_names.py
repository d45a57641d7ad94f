"""Tests names and output directories that follow from paths, by the contract's rules."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.words.eval_names import matching, name_from_path, output_dirs, task_name


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ("r8_lr1e-5/eval/capitalization_epoch0.slurm", "r8_lr1e-5/capitalization/epoch0"),
        ("r8_lr1e-5/eval/capitalization_epoch12/cell.slurm", "r8_lr1e-5/capitalization/epoch12"),
        ("r/eval/t.slurm", "r/t"),
        ("r/eval/t/cell.slurm", "r/t"),
        ("a/b/eval/t_epoch1.slurm", "a/b/t/epoch1"),
        ("a/b/eval/t_epoch1/cell.slurm", "a/b/t/epoch1"),
        ("r/eval/t_epoch1/other.slurm", "r/t/epoch1/other"),
        ("r/eval/a_epoch1_epoch2.slurm", "r/a_epoch1/epoch2"),
        ("r/eval/t_epoch.slurm", "r/t_epoch"),
        ("r/eval/t_epochX.slurm", "r/t_epochX"),
        ("r/eval/_epoch1.slurm", "r/_epoch1"),
        ("r/eval/t_epoch\u0661.slurm", "r/t_epoch\u0661"),
        ("eval/t_epoch0.slurm", "eval/t_epoch0"),
        ("r/other/t_epoch0.slurm", "r/other/t_epoch0"),
        ("x.slurm", "x"),
        ("r/eval/t.tar.slurm", "r/t.tar"),
        ("r/eval/.hidden", "r/.hidden"),
    ],
)
def test_the_name_follows_from_the_path_below_the_experiment(relative: str, expected: str) -> None:
    assert expected == name_from_path(relative)


def test_an_array_task_has_its_number_in_brackets() -> None:
    assert "r/t[3]" == task_name("r/t", 3)


def test_a_script_alone_in_its_directory_uses_that_directory() -> None:
    assert {"/e/a/cell.slurm": "/e/a"} == output_dirs(["/e/a/cell.slurm"])


def test_scripts_that_share_a_directory_use_directories_below_it() -> None:
    assert {"/e/a.slurm": "/e/a", "/e/b.slurm": "/e/b"} == output_dirs(["/e/a.slurm", "/e/b.slurm"])


def test_scripts_that_differ_only_in_their_ending_get_different_directories() -> None:
    assert {"/e/a.slurm": "/e/a", "/e/a.sh": "/e/a/a"} == output_dirs(["/e/a.slurm", "/e/a.sh"])


def test_a_directory_in_use_is_not_used_again() -> None:
    assert {"/e/a/cell.slurm": "/e/a/cell"} == output_dirs(["/e/a/cell.slurm"], ["/e/a"])


def test_the_directory_of_an_arrays_task_is_not_used() -> None:
    assert {"/e/a/7/x.sh": "/e/a/7/x"} == output_dirs(["/e/a/7/x.sh"], ["/e/a"])
    assert {"/e/a/7/x.sh": "/e/a/7"} == output_dirs(["/e/a/7/x.sh"], ["/e/b"])


def test_an_array_avoids_task_directories_that_are_in_use() -> None:
    scripts = ["/e/a/7/x.sh", "/e/a/array.sh"]
    assert {scripts[0]: "/e/a/7", scripts[1]: "/e/a/array"} == output_dirs(scripts, arrays=[scripts[1]])
    assert {scripts[0]: "/e/a/7/x", scripts[1]: "/e/a"} == output_dirs(scripts[::-1], arrays=[scripts[1]])


def test_a_pattern_is_an_evals_name_an_arrays_name_or_a_glob() -> None:
    known = ["r1/t/epoch0", "r1/a[0]", "r1/a[10]", "r2/t/epoch0", "r1/t"]
    assert ["r1/t/epoch0"] == matching("r1/t/epoch0", known)
    assert ["r1/a[0]", "r1/a[10]"] == matching("r1/a", known)
    assert ["r1/a[0]"] == matching("r1/a[0]", known)
    assert ["r1/t/epoch0", "r2/t/epoch0"] == matching("*/t/*", known)
    assert ["r1/t"] == matching("r1/t", [*known, "r1/t[0]"])
    assert [] == matching("r3/*", known)


NAMES = st.sampled_from(["a", "b", "0", "12", "a.sh", "a.slurm", "b.sh"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(PATHS, unique=True, max_size=10), st.lists(PATHS, max_size=5), st.sets(PATHS))
def test_output_directories_are_unique_and_not_in_use(scripts: list[str], taken: list[str], arrays: set[str]) -> None:
    found = output_dirs(scripts, taken, arrays=arrays)
    assert scripts == list(found)
    written = [f"{place}/{n}" for s, place in found.items() if s in arrays for n in ("0", "12")]
    written += [place for s, place in found.items() if s not in arrays]
    assert len(written) == len(set(written))
    assert not set(written) & {*taken, *(f"{place}/{n}" for place in taken for n in ("0", "12"))}
    for script, place in found.items():
        assert os.path.commonpath([os.path.dirname(script), place]) == os.path.dirname(script)
