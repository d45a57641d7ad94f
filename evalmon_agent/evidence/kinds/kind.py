"""Defines a kind of eval: how a job that runs it is recognised, and how its log is read. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from evalmon_agent.evidence.result import EvalLog
from evalmon_agent.words.eval_programs import EvalCommand, EvalProgram


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
class ProgramRun:
    """A process that began an eval, as it was seen in the job. Times are epoch seconds."""

    command: EvalCommand
    directory: str
    """Its working directory when it was first seen."""
    started_at: float
    ended_at: float | None = None
    """None while it runs."""

    def was_alive_at(self, log: EvalLog, *, slack_s: float = 2.0) -> bool:
        """Whether the log's eval began within the life of the process; `created` is in whole seconds, cut off."""
        if log.created is None:
            return False
        at = log.created.timestamp()
        return self.started_at - 1 - slack_s <= at <= (at if self.ended_at is None else self.ended_at + slack_s)

    def writes_below(self, option: str, path: str) -> bool:
        """Whether a file at this path can follow from an option that names a directory; True where it was not given."""
        values = self.command.options.get(option)
        if not values:
            return True
        place = os.path.normpath(os.path.join(self.directory, values[-1].removeprefix("file://")))
        if place.endswith(".json"):
            place = os.path.dirname(place)  # a file's name instead of a directory's: it lies beside that
        return os.path.normpath(path).startswith(f"{place.rstrip('/')}/")

    def has_arguments(self, option: str, arguments: Mapping[str, Any] | None) -> bool:
        """Whether each `name=value` of an option is among the log's arguments; True where these are not known."""
        pairs = [pair.partition("=")[::2] for pair in self.command.options.get(option, ())]
        return arguments is None or all(_is_same(arguments.get(name), text) for name, text in pairs)


def _is_same(value: object, text: str) -> bool:
    """Whether an argument's value can be what was typed; of what is no scalar nobody knows."""
    if isinstance(value, bool):
        return text.lower() in (("true", "yes", "on", "1") if value else ("false", "no", "off", "0"))
    if isinstance(value, int | float):
        with suppress(ValueError):
            return float(text) == value
        return False
    return value == text.strip("'\"") if isinstance(value, str) else value is not None or text in {"null", "~", ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of eval."""

    name: str
    runs: re.Pattern[str]
    """Matches in a script's text if that runs such an eval."""
    program: EvalProgram
    """Its program, which a job's own report names."""
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
    could_be_of: Callable[[ProgramRun, str, EvalLog], bool]
    """Whether a process can have written the log at this path: nothing that is known of both contradicts it."""
    read: Callable[[LogFile], EvalLog | None]
    """The log; None if the file is none of this kind."""

    def expects_log(self, script: str, programs: Collection[str]) -> bool:
        """Whether a job with this script, in which these programs ran, should have left a log."""
        if self.runs.search(script):
            return self.logs_if is None or bool(self.logs_if.search(script))
        return self.logs_if is None and not self.program.scripts.isdisjoint(programs)
