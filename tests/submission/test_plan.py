"""Tests which evals scripts become: names, directories, tasks, and refusals."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.errors import UsageError
from evalmon_agent.submission.plan import Script, array_option, plan, read_script
from evalmon_agent.tracking.registry import Submission
from evalmon_agent.words.job_id import parse_array_spec

ROOT = "/exp"


def script(path: str, *options: str, shebang: str = "#!/bin/bash") -> Script:
    head = "".join(f"#SBATCH {option}\n" for option in options)
    return read_script(f"{ROOT}/{path}" if not path.startswith("/") else path, f"{shebang}\n{head}true\n".encode())


def planned(
    *scripts: Script, taken: tuple[str, ...] = (), registered: tuple[str, ...] = (), **environ: str
) -> list[Submission]:
    return plan(scripts, root=ROOT, registered=registered, taken=taken, environ=environ)


def names(*paths: str) -> list[str]:
    return [one.name for one in planned(*map(script, paths))]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("r8_lr1e-5/eval/capitalization_epoch0.slurm", "r8_lr1e-5/capitalization/epoch0"),
        ("r8_lr1e-5/eval/capitalization_epoch0/cell.slurm", "r8_lr1e-5/capitalization/epoch0"),
        ("r/eval/t.slurm", "r/t"),
        ("r/eval/t/cell.slurm", "r/t"),
        ("any/where/x.sh", "any/where/x"),
        ("x.slurm", "x"),
    ],
)
def test_a_script_below_the_experiment_is_named_by_its_path(path: str, name: str) -> None:
    assert [name] == names(path)


def test_a_script_elsewhere_is_named_by_its_job_name() -> None:
    named, plain = script("/elsewhere/a.sh", "--job-name=my-eval"), script("/elsewhere/b.sh")
    assert ["my-eval", "b.sh"] == [one.name for one in planned(named, plain)]


def test_a_directory_whose_name_starts_like_the_experiments_is_elsewhere() -> None:
    assert ["x.sh"] == [one.name for one in planned(script("/exp2/x.sh"))]


def test_a_directory_whose_name_starts_with_two_dots_is_below_the_experiment() -> None:
    assert ["..odd/x"] == names("..odd/x.sh")


def test_two_evals_with_one_name_are_refused_with_both_their_paths() -> None:
    with pytest.raises(UsageError) as refused:
        names("r/eval/t_epoch0.slurm", "r/eval/t_epoch0/cell.slurm")
    for part in ("/exp/r/eval/t_epoch0.slurm", "/exp/r/eval/t_epoch0/cell.slurm", "r/t/epoch0", "rename"):
        assert part in str(refused.value)


def test_a_task_of_an_array_and_a_script_with_one_name_are_refused() -> None:
    array, other = script("r/eval/t.slurm", "--array=0-7"), script("r/eval/t[3].slurm")
    with pytest.raises(UsageError, match=r"both named r/t\[3\]"):
        planned(array, other)
    assert 3 == len(planned(array, script("r/eval/t[8].slurm"), script("r/eval/t[03].slurm")))


def test_each_script_has_its_own_directory() -> None:
    found = planned(script("r/eval/a.slurm"), script("r/eval/b.slurm"), script("r/eval/c/cell.slurm"))
    assert ["/exp/r/eval/a", "/exp/r/eval/b", "/exp/r/eval/c"] == [one.output_dir for one in found]


def test_a_script_beside_a_registered_one_gets_its_own_directory() -> None:
    taken, registered = ("/exp/r/eval/c",), ("/exp/r/eval/c/old.slurm",)
    [one] = planned(script("r/eval/c/new.slurm"), taken=taken, registered=registered)
    assert "/exp/r/eval/c/new" == one.output_dir


def test_a_script_that_is_planned_again_keeps_its_directory() -> None:
    path = "/exp/r/eval/c/cell.slurm"
    assert "/exp/r/eval/c" == planned(script(path), registered=(path,))[0].output_dir


def test_the_task_directory_of_a_registered_array_is_not_used() -> None:
    [one] = planned(script("r/eval/c/3/cell.slurm"), taken=("/exp/r/eval/c",))
    assert "/exp/r/eval/c/3/cell" == one.output_dir


def test_array_tasks_are_parsed_as_by_sbatch() -> None:
    [plain], [array] = planned(script("a.sh")), planned(script("b.sh", "-a 1,3-5%2"))
    assert (None, (1, 3, 4, 5)) == (plain.tasks, array.tasks)
    assert (7, 8) == planned(script("b.sh", "--array=1"), SBATCH_ARRAY_INX="7-8")[0].tasks


def test_an_array_that_slurm_would_refuse_is_refused() -> None:
    with pytest.raises(UsageError, match="--array=0-x"):
        planned(script("b.sh", "--array=0-x"))


@pytest.mark.parametrize("content", [b"", b"echo x\n", b"\n#!/bin/bash\n", b" #!/bin/bash\n"])
def test_a_script_without_an_interpreter_line_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match=r"^/exp/x.sh: no #! line"):
        read_script("/exp/x.sh", content)


def test_a_script_with_dos_line_ends_is_refused_as_by_slurm() -> None:
    with pytest.raises(UsageError, match="DOS line ends"):
        read_script("/exp/x.sh", b"#!/bin/bash\r\necho\r\n")


def test_a_script_of_any_bytes_is_kept_unchanged() -> None:
    content = b"#!/bin/bash\n#SBATCH --comment=\xff\n\xfe\0\n"
    assert (content, "\udcff") == ((found := read_script("/exp/x.sh", content)).content, found.head.options["comment"])


# Layouts.

PARTS = st.sampled_from(["r", "eval", "t", "t_epoch0", "cell", "0", "3"])
FILES = st.sampled_from(["cell.slurm", "t.slurm", "t_epoch0.slurm", "0.slurm", "3.slurm", "cell.sh", "cell"])
PATHS = st.builds(lambda parts, file: "/".join([*parts, file]), st.lists(PARTS, max_size=4), FILES)
LAYOUTS = st.lists(st.tuples(PATHS, st.booleans()), min_size=1, max_size=8, unique_by=lambda pair: pair[0])


def directories(found: list[Submission]) -> list[str]:
    """The directory of each eval."""
    tasks = ((one, one.tasks if one.tasks is not None else [None]) for one in found)
    return [one.output_dir if task is None else f"{one.output_dir}/{task}" for one, those in tasks for task in those]


@given(LAYOUTS, LAYOUTS)
def test_no_two_evals_share_a_name_or_a_directory_in_any_layout(
    first: list[tuple[str, bool]], more: list[tuple[str, bool]]
) -> None:
    old = _planned_unless_refused(first, (), ())
    registered = tuple(one.script for one in old)
    later = [pair for pair in more if f"{ROOT}/{pair[0]}" not in registered]
    new = _planned_unless_refused(later, tuple(one.output_dir for one in old), registered)
    for found in (old, new):
        all_names = [
            f"{one.name}[{task}]" if task is not None else one.name for one in found for task in one.tasks or [None]
        ]
        assert len(all_names) == len(set(all_names))
    places = directories([*old, *new])
    assert len(places) == len(set(places))
    assert all(place.startswith(f"{ROOT}/") or place == ROOT for place in places)
    assert all(os.path.normpath(place) == place for place in places)


def _planned_unless_refused(
    layout: list[tuple[str, bool]], taken: tuple[str, ...], registered: tuple[str, ...]
) -> list[Submission]:
    scripts = [script(path, *(["--array=0,3"] if is_array else [])) for path, is_array in layout]
    try:
        return planned(*scripts, taken=taken, registered=registered)
    except UsageError:
        return []


def test_an_array_is_retried_for_these_tasks_with_its_task_limit() -> None:
    assert "--array=3,7%2" == array_option([7, 3], "0-9%2")
    assert "--array=1-3,5" == array_option([1, 2, 3, 5], "0-9")
    assert "--array=0" == array_option([0], "0-9%nonsense")


@given(st.sets(st.integers(0, 10_000), min_size=1, max_size=50), st.sampled_from(["", "0-9", "0-9%4"]))
def test_sbatch_parses_exactly_these_tasks(tasks: set[int], spec: str) -> None:
    assert tuple(sorted(tasks)) == parse_array_spec(array_option(list(tasks), spec).removeprefix("--array="))
