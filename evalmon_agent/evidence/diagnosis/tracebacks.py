"""Finds exceptions in a job's output: Python's tracebacks, rich's boxes, chains and groups. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from evalmon_agent.evidence.diagnosis.output import STEPD, Line, is_noise, went_on

_HEAD = re.compile(r"Traceback \(most recent call last\):$")
_BOX_HEAD = re.compile(r"╭─+ Traceback \(most recent call last\) ─+╮$")
_FRAME = re.compile(r' {2,}File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<where>.+))?')
_BOX_FRAME = re.compile(r"(?P<path>[^\s│]+\.py):(?P<line>\d+) in (?P<where>\S+)")
_EXCEPTION = re.compile(r"(?P<type>(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)(?:: (?P<message>.*)|:)?$", re.ASCII)
_WRITTEN = re.compile(
    r"(?P<type>[A-Za-z_][\w.]*)\((?:(?P<errno>\d{1,4}), )?(?P<quote>['\"])(?P<message>.*)(?P=quote)", re.DOTALL
)
# Installed packages, Python's own modules, and the programs that pip makes of a package's entry points.
_LIBRARY = re.compile(r"(?:^|/)(?:site-packages|dist-packages|lib(?:64)?/python\d[\d.]*)/|/s?bin/[^/.]+$|^<")
_ALONE = re.compile(
    r"(?:(?P<type>(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception)): |(?=\[Errno \d+\] ))(?P<message>\S.*)$", re.ASCII
)
_MESSAGE_LINES = 8
_LONGEST_BLOCK = 2000


@dataclass(frozen=True, slots=True)
class Raised:
    """One exception. `first`, `last`: its lines, from the head of its traceback; None if no line shows it."""

    type: str
    message: str
    line: str
    """The line that names it."""
    frame: str | None = None
    """`file.py:12 in main`: the innermost place in a file of the user's, else the innermost of all."""
    first: int | None = None
    last: int | None = None

    @property
    def text(self) -> str:
        """`Type: message`, the lines of the message joined."""
        return ": ".join(filter(None, (self.type, self.message)))


def exceptions(lines: Sequence[Line]) -> list[Raised]:
    """In the order in which they are printed; the origin of a chain comes first."""
    all_raised: list[Raised] = []
    at = 0
    while at < len(lines):
        raised = None if lines[at].is_quoted and not _BOX_HEAD.match(lines[at].text) else _block(lines, at)
        if raised is not None:
            all_raised.append(raised)
        at = raised.last + 1 if raised is not None and raised.last is not None else at + 1
    return all_raised


def unexplained(lines: Sequence[Line]) -> Raised | None:
    """The exception that the last line names, without a traceback: a program printed no more than its message."""
    at = next((number for number in reversed(range(len(lines))) if not is_noise(lines[number].text)), None)
    match = None if at is None or lines[at].is_quoted else _ALONE.match(lines[at].text)
    if match is None or at is None:
        return None
    return Raised(match["type"] or "OSError", match["message"], lines[at].raw, first=at, last=at)


def written(error: str) -> Raised:
    """An exception as inspect-ai's log has it: `Type('message')`, `OSError(2, 'message')`, or only a message."""
    match = _WRITTEN.match(error) or _EXCEPTION.match(error.split("\n", 1)[0])
    if match is None or not match["message"]:
        return Raised("", error, error)
    if errno := match.groupdict().get("errno"):
        return Raised(match["type"], f"[Errno {errno}] {match['message']}", error)
    return Raised(match["type"], match["message"], error)


def _block(lines: Sequence[Line], at: int) -> Raised | None:
    """The exception whose traceback begins here."""
    if _BOX_HEAD.match(lines[at].text):
        return _boxed(lines, at)
    is_cut_off = at == 0 and len(lines) > 1 and _FRAME.match(lines[1].text)
    if not (_HEAD.match(lines[at].text) or is_cut_off or (at == 0 and _FRAME.match(lines[at].text))):
        return None
    frames: list[re.Match[str]] = []
    for number in range(at + 1, min(len(lines), at + _LONGEST_BLOCK)):
        text = lines[number].text
        if match := _FRAME.match(text):
            frames.append(match)
        elif text and not text[0].isspace():
            return _named(lines, at, number, frames)
    return None


def _boxed(lines: Sequence[Line], at: int) -> Raised | None:
    frames: list[re.Match[str]] = []
    for number in range(at + 1, min(len(lines), at + _LONGEST_BLOCK)):
        text = lines[number].text
        if _BOX_HEAD.match(text):
            return None
        if match := _BOX_FRAME.search(text):
            frames.append(match)
        if text.startswith("╰"):
            return _named(lines, at, number + 1, frames) if number + 1 < len(lines) else None
    return None


def _named(lines: Sequence[Line], first: int, at: int, frames: Sequence[re.Match[str]]) -> Raised | None:
    """The exception that the line `at` names, with the rest of its message."""
    match = _EXCEPTION.match(lines[at].text)
    if match is None:
        return None
    last = at
    message = [match["message"] or ""]
    while last + 1 < len(lines) and last - at < _MESSAGE_LINES and _goes_on(lines[last + 1].text):
        last += 1
        message.append(lines[last].text.strip())
    return Raised(match["type"], " ".join(message).strip(), lines[at].text, _place(frames), first, last)


_OTHERS = re.compile(
    rf"slurmstepd(?:-\S+)?:|{STEPD}|srun:|"
    r"Traceback |During handling|The above exception|\S+: line \d+:|wandb:|"
    r"(?:INFO|WARNING|ERROR|DEBUG)\b|\[?\d{4}-\d\d-\d\d|.*\d%\||\+ "
)


def _goes_on(text: str) -> bool:
    return bool(text.strip()) and not _OTHERS.match(text) and not went_on(text)


def _place(frames: Sequence[re.Match[str]]) -> str | None:
    """Where to look first: a library raises what somebody else's call provoked."""
    if not frames:
        return None
    match = next((frame for frame in reversed(frames) if not _LIBRARY.search(frame["path"])), frames[-1])
    where = f" in {match['where']}" if match["where"] else ""
    return f"{match['path'].rpartition('/')[2]}:{match['line']}{where}"
