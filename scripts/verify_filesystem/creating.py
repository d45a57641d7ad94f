"""Checks that each name is created by one process only, while all create, link and append at once without a lock."""

from __future__ import annotations

import functools
import os
from collections import Counter

from evalmon_agent.files.replace import NO_LINKS
from verify_filesystem.finding import Finding
from verify_filesystem.meeting import Meeting


def verify(meeting: Meeting, *, processes: int, rounds: int) -> list[Finding]:
    """Exclusive creation, which intents and markers rely on, and O_APPEND, which evalmon does not rely on."""
    found = meeting.let_work("creation", functools.partial(_worker, rounds), processes=processes)
    findings = []
    for what, key in (("creating exclusively (O_EXCL)", "created"), ("linking exclusively (link)", "linked")):
        if any(one[key] is None for one in found):
            findings.append(Finding(what, None, "refused here, where evalmon has no soft lock"))
            continue
        makers = Counter(name for one in found for name in one[key])
        several = sum(makers[turn] > 1 for turn in range(rounds))
        none = sum(not makers[turn] for turn in range(rounds))
        words = f"{rounds} names, {len(found)} processes after each: {several} had several makers"
        words += f"; {none} had none, all were refused" if none else ""
        findings.append(Finding(what, several == 0, words))
    expected = rounds * len(found)
    with open(os.path.join(meeting.place, "appended"), encoding="ascii", errors="replace") as file:
        whole = sum(line.endswith(" end") for line in file.read().split("\n")[:-1])
    words = f"{whole} of {expected} lines are whole (evalmon does not rely on it)"
    return [*findings, Finding("appending at once (O_APPEND)", None, words)]


def _worker(rounds: int, place: str, number: int) -> dict[str, object]:
    aside = os.path.join(place, f"aside.{os.uname().nodename}.{os.getpid()}")
    os.close(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    descriptor = os.open(os.path.join(place, "appended"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    created: list[int] = []
    linked: list[int] | None = []
    for turn in range(rounds):
        os.write(descriptor, f"{number} {turn} {'x' * 80} end\n".encode())
        created += [turn] * _create(os.path.join(place, f"created.{turn}"))
        linked = _link(aside, os.path.join(place, f"linked.{turn}"), turn, linked)
    os.close(descriptor)
    return {"created": created, "linked": linked}


def _create(name: str) -> bool:
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    except OSError:
        if not os.path.lexists(name):  # sftp has no word for "exists"
            raise
        return False
    return True


def _link(aside: str, name: str, turn: int, linked: list[int] | None) -> list[int] | None:
    """The rounds won, including this one; None once the file system refuses links."""
    if linked is None:
        return None
    try:
        os.link(aside, name)
    except OSError as error:
        is_refused = error.errno in NO_LINKS and not os.path.lexists(name)
        return None if is_refused else linked
    return [*linked, turn]
