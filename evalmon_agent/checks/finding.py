"""A record of what one check found, and what is to be done about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """`warning`: evalmon works, with less; `problem`: it does not, and a command would end with `exit_status`."""

    check: str
    level: Level
    line: str
    advice: str = ""
    exit_status: int = 1


def ok(check: str, line: str) -> Finding:
    """All is well."""
    return Finding(check, "ok", line)


def warning(check: str, line: str, advice: str) -> Finding:
    """It works, with less."""
    return Finding(check, "warning", line, advice)


def problem(check: str, line: str, advice: str, *, exit_status: int = 1) -> Finding:
    """It does not work."""
    return Finding(check, "problem", line, advice, exit_status)
