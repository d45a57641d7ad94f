"""Plans which evals scripts become (names, directories, array tasks), checked before anything is submitted."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from evalmon_agent.errors import UsageError
from evalmon_agent.slurm.sbatch import ScriptHead, read_head
from evalmon_agent.tracking.registry import Name, Submission
from evalmon_agent.words.eval_names import name_from_path, output_dirs
from evalmon_agent.words.job_id import parse_array_spec

MAX_SCRIPT_BYTES = 16 * 1024 * 1024
_ARRAY_VARIABLE = "SBATCH_ARRAY_INX"


@dataclass(frozen=True, slots=True)
class Script:
    """A script: its absolute path, its bytes and what sbatch reads of it."""

    path: str
    content: bytes
    head: ScriptHead


@dataclass(frozen=True, slots=True)
class Prepared:
    """One planned submission, with the script as it was read.

    `retry_logs`: where an eval that is run again may go on from; `why`: why it is submitted again. `instead_of`: for
    evals that were submitted before, the token that counts now; they are taken only while it does.
    """

    script: Script
    submission: Submission
    retry_logs: Mapping[int | None, str] = field(default_factory=dict)
    why: str = ""
    instead_of: Mapping[Name, str] = field(default_factory=dict)


def read_script(path: str, content: bytes) -> Script:
    """The script; UsageError if sbatch would refuse it or evalmon could not run it."""
    head = read_head(content.decode(errors="surrogateescape"))
    if head.shebang is None:
        raise UsageError(f"{path}: no #! line at its top, so Slurm would refuse it; begin it with #!/bin/bash")
    if "test-only" in head.options:
        raise UsageError(f"{path}: #SBATCH --test-only, with which Slurm runs no job; remove that line")
    if b"\r\n" in content:
        raise UsageError(f"{path}: DOS line ends, so Slurm would refuse it; run: sed -i 's/\\r$//' {path}")
    return Script(path, content, head)


def plan(
    scripts: Sequence[Script],
    *,
    root: str,
    registered: Collection[str],
    taken: Collection[str],
    environ: Mapping[str, str],
) -> list[Submission]:
    """The planned submissions, in the order of the scripts, without a token yet.

    `registered`: the scripts that the experiment has already; `taken`: output directories in use. UsageError if
    two evals have one name.
    """
    tasks = {script.path: _tasks(script, environ) for script in scripts}
    arrays = {path for path, numbers in tasks.items() if numbers is not None}
    others = [path for path in registered if path not in tasks]
    places = output_dirs([*tasks, *others], taken, arrays=arrays)
    planned = [
        Submission(_name(script, root=root), script.path, places[script.path], tasks[script.path]) for script in scripts
    ]
    _refuse_doubles(planned)
    return planned


def array_spec(script: Script, environ: Mapping[str, str]) -> str:
    """The array that sbatch makes of it, as text; "" for a job that is none."""
    return environ.get(_ARRAY_VARIABLE) or script.head.options.get("array", "")


def array_option(tasks: Sequence[int], spec: str) -> str:
    """`--array` for these tasks, with the limit on how many run at once that the script's own spec has."""
    _, percent, limit = spec.partition("%")
    ranges: list[list[int]] = []
    for task in sorted(tasks):
        if ranges and task == ranges[-1][-1] + 1:
            ranges[-1].append(task)
        else:
            ranges.append([task])
    parts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in ranges]
    kept = f"{percent}{limit}" if limit and parse_array_spec(f"0%{limit}") is not None else ""
    return f"--array={','.join(parts)}{kept}"


def _refuse_doubles(planned: Sequence[Submission]) -> None:
    by_name: dict[str, Submission] = {}
    doubles = [(new, other) for new in planned if (other := by_name.setdefault(new.name, new)) is not new]
    by_task = {name: array for array in planned if array.tasks is not None for name in array.eval_names}
    doubles += [(new, by_task[new.name]) for new in planned if new.name in by_task]
    if doubles:
        new, other = doubles[0]
        raise UsageError(f"{new.script} and {other.script} are both named {new.name}; rename one of them")


def _name(script: Script, *, root: str) -> str:
    relative = os.path.relpath(script.path, root)
    if not relative.startswith(os.pardir + os.sep):
        return name_from_path(relative)
    name = script.head.options.get("job-name") or os.path.basename(script.path)
    if any("\ud800" <= char <= "\udfff" for char in name):  # bytes that are not UTF-8 come as these
        raise UsageError(f"{script.path}: its --job-name is not UTF-8 and cannot be recorded; rename it")
    return name


def _tasks(script: Script, environ: Mapping[str, str]) -> tuple[int, ...] | None:
    spec = array_spec(script, environ)
    if not spec:
        return None
    tasks = parse_array_spec(spec)
    if tasks is None:
        raise UsageError(f"{script.path}: --array={spec} is not an array that Slurm accepts; write it like 0-7%4")
    return tasks
