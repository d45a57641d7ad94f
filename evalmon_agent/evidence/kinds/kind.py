"""Defines a kind of eval: how a job that runs it is recognised, and how its log is read. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from evalmon_agent.evidence.result import EvalLog


class LogFile(Protocol):
    """A file that may be a log, for one reading. What it cannot give raises OSError or UnreadableLogError."""

    @property
    def name(self) -> str:
        """Its name, without directories."""

    @property
    def modified_at(self) -> float:
        """When it was last changed, in epoch seconds."""

    @property
    def sample_count(self) -> int | None:
        """Of an archive: the samples that are in it so far."""

    def text(self) -> Iterator[bytes]:
        """Its content, in pieces."""

    def member(self, name: str) -> Iterator[bytes] | None:
        """Of an archive: the content of one of the kind's `members`, in pieces; None if it has none of this name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of eval."""

    name: str
    runs: re.Pattern[str]
    """Matches in a script's text if that runs such an eval."""
    programs: frozenset[str]
    """What its program is called, as a job's own report names it."""
    logs_if: re.Pattern[str] | None = None
    """Matches in a script's text if it also writes a log; None: it always does."""
    log_dir: re.Pattern[str]
    """Matches in a script's text right before the directory that its logs go to."""
    folders: tuple[str, ...]
    """Where they lie unless told otherwise, seen from the script's directory and from the output directory."""
    is_nested: bool = False
    """Whether they may also lie in the directories right below those."""
    files: re.Pattern[str]
    """Fits the whole name of a file that may be one of its logs."""
    begin: re.Pattern[bytes]
    """How the text of a log begins that is no archive: other people's files are left alone soon."""
    archive: str | None = None
    """How the name of an archive ends."""
    members: frozenset[str] = frozenset()
    """What is read of an archive."""
    read: Callable[[LogFile], EvalLog | None]
    """The log; None if the file is none of this kind."""

    def expects_log(self, script: str, programs: Collection[str]) -> bool:
        """Whether a job with this script, in which these programs ran, should have left a log."""
        if self.runs.search(script):
            return self.logs_if is None or bool(self.logs_if.search(script))
        return self.logs_if is None and not self.programs.isdisjoint(programs)
