"""What really happened: what the evals wrote down of themselves, and what accounting says at the end.

Nothing here reads a file of evalmon's or uses its code.
"""

import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from soak_parts.evals import Script
from soak_parts.place import Place, Shell

_FIELDS = "JobID,State,ExitCode,Submit,Start,End,NodeList,WorkDir"
_SETTLED_WITHIN_S = 60.0
_OVER = frozenset(
    ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL"]
)


@dataclass(frozen=True)
class Row:
    """One attempt in accounting; time stamps as sacct prints them, in local time."""

    job_id: str
    state: str
    exit_code: int
    signal: int
    submitted: str
    ended: str
    has_node: bool


@dataclass(frozen=True)
class Line:
    """An eval's own record: `start`, `exit:3` or `signal:9`, by which job and in which of its runs."""

    job_id: str
    restart: int
    word: str
    at: float = 0.0


@dataclass(frozen=True)
class Truth:
    """One eval: its attempts in accounting, oldest first, and its own lines, in the order of writing.

    `requeued_from`: the states in which the killer requeued it. If it was over, accounting forgets that: the
    attempt's row then has REQUEUED with the time of the requeue. `is_forgotten`: an array task that the killer
    cancelled before it had its own record; Slurm keeps no trace of it [ran, 22.05].
    """

    name: str
    rows: tuple[Row, ...]
    lines: tuple[Line, ...]
    requeued_from: frozenset[str] = frozenset()
    is_forgotten: bool = False


@dataclass(frozen=True)
class Hit:
    """One action of the killer on an eval's job, and the job's state at that time."""

    made: str
    job_id: str
    cell: str
    state: str


def gather(place: Place, shell: Shell, made: Iterable[tuple[Path, Script]], *, since: float) -> dict[Path, list[Truth]]:
    """The truth by experiment, once accounting has the end of every job, or has had enough time for that."""
    deadline = time.monotonic() + _SETTLED_WITHIN_S
    made, hits = list(made), _hits(place)
    while True:
        found = _gathered(place, _rows(place, shell, since=since), made, hits)
        rows = [truth.rows[-1:] for truths in found.values() for truth in truths if not truth.is_forgotten]
        if all(last and last[0].state in _OVER for last in rows) or time.monotonic() > deadline:
            return found
        time.sleep(1)


def _gathered(
    place: Place,
    rows: Mapping[Path, Sequence[Row]],
    made: Iterable[tuple[Path, Script]],
    hits: Sequence[Hit],
) -> dict[Path, list[Truth]]:
    found: dict[Path, list[Truth]] = defaultdict(list)
    for experiment, script in made:
        folder = experiment / script.run / "eval" / script.cell
        for task, name in enumerate(script.names):
            suffix = f"_{task}" if script.tasks else ""
            mine = [row for row in rows.get(folder, []) if not suffix or row.job_id.endswith(suffix)]
            path = place.truth / (f"{script.cell}.{task}" if script.tasks else script.cell)
            ids = {row.job_id for row in mine}
            states = {hit.state for hit in hits if hit.made == "requeue eval" and hit.job_id in ids} & _OVER
            is_cancelled = any(
                (hit.made, hit.cell, hit.state) == ("cancel eval", script.cell, "PENDING")
                and hit.job_id.endswith(suffix)
                for hit in hits
            )
            forgotten = bool(suffix) and not mine and is_cancelled
            found[experiment].append(Truth(name, tuple(mine), tuple(_lines(path)), frozenset(states), forgotten))
    return found


def _rows(place: Place, shell: Shell, *, since: float) -> dict[Path, list[Row]]:
    begin = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since - 60))
    words = ("sacct", "-n", "-P", "-D", "-X", "-S", begin, "-o", _FIELDS)
    # A job that was held until it was cancelled was never eligible: sacct shows it only if asked for its state.
    asked = (words, (*words, "-E", "now", "-s", "CA"))
    lines = {line: None for argv in asked for line in shell.ask("env", "SLURM_BITSTR_LEN=0", *argv).stdout.splitlines()}
    found: dict[Path, list[Row]] = defaultdict(list)
    for line in lines:
        job_id, state, exit_code, submitted, _start, ended, nodes, folder = line.split("|", 7)
        status, _, signal = exit_code.partition(":")
        has_node = nodes not in {"", "None assigned"}
        for one in _expanded(job_id):
            row = Row(one, state.split()[0], int(status), int(signal), submitted, ended, has_node)
            found[Path(folder)].append(row)
    return {folder: sorted(mine, key=_order) for folder, mine in found.items() if place.disk in folder.parents}


def _hits(place: Place) -> list[Hit]:
    """The killer's actions on evals' jobs: in `job 7_0 (array_epoch3) PENDING` the job, the eval and its state."""
    found = []
    for line in place.hits.read_text().splitlines() if place.hits.exists() else ():
        hit = json.loads(line)
        if hit["made"] in {"requeue eval", "cancel eval"}:
            _job, job_id, *cell, state = hit["target"].split()
            found.append(Hit(hit["made"], job_id, "".join(cell).strip("()"), state))
    return found


def _order(row: Row) -> tuple[str, bool]:
    return row.submitted, row.state in _OVER


def _expanded(job_id: str) -> Iterator[str]:
    """Array tasks that never started share a row: `7_[0-2]`."""
    array, bracket, tasks = job_id.partition("_[")
    if not bracket:
        yield job_id
        return
    for part in tasks.partition("]")[0].partition("%")[0].split(","):
        first, _, last = part.partition("-")
        yield from (f"{array}_{task}" for task in range(int(first), int(last or first) + 1))


def _lines(path: Path) -> Iterator[Line]:
    if path.exists():
        for line in path.read_text().splitlines():
            job_id, restart, word, at = line.split()
            yield Line(job_id, int(restart), word, float(at))
