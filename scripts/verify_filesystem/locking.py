"""Checks that the lock excludes: many processes acquire it and increment a number in a file, as evalmon does."""

from __future__ import annotations

import functools
import os
import random
import time

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.files.lock import held
from evalmon_agent.files.private import append_line, read_private
from evalmon_agent.files.proc import LockKind, boot_id
from evalmon_agent.files.replace import replace_atomically
from verify_filesystem.finding import Finding
from verify_filesystem.meeting import Meeting

_WAIT_S = 120.0
_LONGEST_HOLD_S = 0.002

Hold = tuple[str, float, float]
"""On which boot of which machine, and from when to when by its monotonic clock."""


def verify(meeting: Meeting, kind: LockKind, *, processes: int, rounds: int) -> list[Finding]:
    """Overlapping holds, lost updates, and lines appended in turn."""
    if meeting.is_first:
        replace_atomically(_counter(meeting.place), b"0")
    found = meeting.let_work(f"lock-{kind}", functools.partial(_worker, kind, rounds), processes=processes)
    problems = sorted({problem for one in found for problem in one["problems"]})
    holds: list[Hold] = [tuple(hold) for one in found for hold in one["holds"]]
    last, lines, torn = _number(meeting.place), *_lines(meeting.place)
    lost = len(holds) - last
    overlaps = overlapping(holds)
    machines = len({boot for boot, _, _ in holds})
    words = f"{len(found)} processes on {machines} machine{'s' * (machines != 1)} held it {len(holds)} times"
    words += f": {overlaps} overlapping holds, {lost} lost updates"
    words += f"; {problems[0]}" if problems else ""
    appended = f"{lines} of {len(holds)} lines are there, {torn} torn"
    return [
        Finding(f"lock ({kind})", not (overlaps or lost or problems), words),
        Finding("appending in turn", (lines, torn) == (len(holds), 0), appended),
    ]


def overlapping(holds: list[Hold]) -> int:
    """How many began before an earlier one had ended. Clocks of two machines are never compared."""
    count = 0
    ends: dict[str, float] = {}
    for boot, began, ended in sorted(holds):
        count += began < ends.get(boot, began)
        ends[boot] = max(ended, ends.get(boot, ended))
    return count


def _worker(kind: LockKind, rounds: int, place: str, number: int) -> dict[str, object]:
    chance = random.Random(number)
    boot = boot_id()
    holds: list[Hold] = []
    problems: list[str] = []
    for turn in range(rounds):
        try:
            with held(os.path.join(place, f"the-{kind}-lock"), kind, wait_s=_WAIT_S):
                began = time.monotonic()
                count = _number(place)
                time.sleep(chance.random() * _LONGEST_HOLD_S)
                replace_atomically(_counter(place), str(count + 1).encode())
                append_line(os.path.join(place, "log"), f"{number} {turn} {'x' * 80} end\n".encode())
                holds.append((boot, began, time.monotonic()))
        except (LockUnavailableError, OSError) as error:
            problems.append(str(error))
    return {"holds": holds, "problems": problems}


def _counter(place: str) -> str:
    return os.path.join(place, "counter")


def _number(place: str) -> int:
    return int(read_private(_counter(place), max_bytes=100) or b"")


def _lines(place: str) -> tuple[int, int]:
    try:
        with open(os.path.join(place, "log"), encoding="ascii", errors="replace") as file:
            lines = file.read().split("\n")[:-1]
    except FileNotFoundError:
        return 0, 0
    torn = sum(not line.endswith(" end") or len(line.split()) != 4 for line in lines)
    return len(lines) - torn, torn
