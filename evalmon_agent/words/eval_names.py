"""Derives an eval's name and output directory from the path of its script below EXP; finds evals by name."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase

from evalmon_agent.errors import UsageError, did_you_mean

_EPOCH = re.compile(r"(?P<task>.+)_epoch(?P<epoch>[0-9]+)")
_CELL = "cell"
_EVAL_DIR = "eval"


def name_from_path(relative: str) -> str:
    """`{run}/eval/{task}_epoch{N}[/cell].slurm` as `{run}/{task}/epoch{N}`.

    Without `_epoch{N}` it is `{run}/{task}`; a script in the cell's directory that is not called `cell` adds
    its stem; in any other layout the path itself, without its ending, is the name. `relative` is the path
    below EXP with "/" between its parts.
    """
    *directories, filename = relative.split("/")
    stem = _stem(filename)
    if len(directories) >= 2 and directories[-1] == _EVAL_DIR:
        return "/".join([*directories[:-1], *_task_and_epoch(stem)])
    if len(directories) >= 3 and directories[-2] == _EVAL_DIR:
        cell = [] if stem == _CELL else [stem]
        return "/".join([*directories[:-2], *_task_and_epoch(directories[-1]), *cell])
    return "/".join([*directories, stem])


def output_dirs(scripts: Sequence[str], taken: Collection[str] = (), *, arrays: Collection[str] = ()) -> dict[str, str]:
    """Where each script's metrics go: its directory if it is alone there, else `{directory}/{stem}`.

    `scripts`: all scripts of the experiment, as absolute paths, `arrays` those whose tasks write one directory
    deeper, each in its own; `taken`: directories that other evals, arrays perhaps, write to already. Two evals never
    share one CSV: where they would, a script goes one directory deeper.
    """
    crowd = Counter(os.path.dirname(script) for script in scripts)
    used = _Used(taken)
    chosen: dict[str, str] = {}
    for script in scripts:
        directory, filename = os.path.split(script)
        place = directory if crowd[directory] == 1 else os.path.join(directory, _stem(filename))
        while used.has(place, is_array=script in arrays):
            place = os.path.join(place, _stem(filename))
        used.add(place, is_array=script in arrays)
        chosen[script] = place
    return chosen


def task_name(name: str, task: int | str) -> str:
    """The name of one task of an array eval."""
    return f"{name}[{task}]"


def matching(pattern: str, names: Collection[str]) -> list[str]:
    """The evals that the user means: the one of this name, else the array's tasks, else those that the glob matches.

    A bracket in it is a task's, not a glob's.
    """
    if pattern in names:
        return [pattern]
    tasks = [name for name in names if name.startswith(f"{pattern}[")]
    return tasks or [name for name in names if fnmatchcase(name, pattern.replace("[", "[[]"))]


def named_evals(patterns: Sequence[str], names: Collection[str], *, experiment: str) -> list[str]:
    """The evals that these patterns mean, in their order; UsageError if one of them matches nothing."""
    matches = dict[str, None]()
    for pattern in patterns:
        evals = matching(pattern, names)
        if not evals:
            suggestion = did_you_mean(pattern, names) or f"; see: evalmon status {experiment}"
            raise UsageError(f"no eval is called {pattern}{suggestion}")
        matches.update(dict.fromkeys(evals))
    return list(matches)


class _Used:
    """The directories in use. An array's tasks write to `{place}/0`, `{place}/1` and so on."""

    def __init__(self, taken: Collection[str]) -> None:
        self._places = set(taken)
        self._arrays = set(taken)
        self._numbered = {os.path.dirname(place) for place in taken if _is_number(place)}

    def has(self, place: str, *, is_array: bool) -> bool:
        is_task = _is_number(place) and os.path.dirname(place) in self._arrays
        return place in self._places or is_task or (is_array and place in self._numbered)

    def add(self, place: str, *, is_array: bool) -> None:
        self._places.add(place)
        if is_array:
            self._arrays.add(place)
        if _is_number(place):
            self._numbered.add(os.path.dirname(place))


def _is_number(place: str) -> bool:
    name = os.path.basename(place)
    return name.isascii() and name.isdecimal()


def _task_and_epoch(text: str) -> list[str]:
    match = _EPOCH.fullmatch(text)
    return [match["task"], f"epoch{match['epoch']}"] if match else [text]


def _stem(filename: str) -> str:
    return os.path.splitext(filename)[0]
