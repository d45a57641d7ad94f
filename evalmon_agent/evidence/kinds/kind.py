"""Defines a kind of eval: how a job that runs it is recognised, and how its log is read. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from evalmon_agent.evidence.result import EvalLog
from evalmon_agent.words.eval_processes import WatchedProgram


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFile:
    """A file that may be a log, for one reading. What it cannot give raises OSError or UnreadableLogError."""

    name: str
    """Without directories."""
    modified_at: float
    """When it was last changed, in epoch seconds."""
    text: Callable[[], Iterator[bytes]] = lambda: iter(())
    """Its content in pieces, if it is no archive."""
    member: Callable[[str], Iterator[bytes] | None] = lambda _name: None
    """Of an archive: the content of one of the kind's `members`, in pieces; None if it has none of this name."""
    sample_count: int | None = None
    """Of an archive: the samples that are in it so far."""


class Written(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A log as a process named it: its path if that could be translated, else the name and its directory's digest."""

    name: str
    path: str | None = None
    directory_sha256: str | None = None
    known_by: tuple[str, ...] = ()

    @property
    def is_certain(self) -> bool:
        """Whether the process held a file open whose name has its own pid, rather than one that others may share."""
        return "name" in self.known_by


class ObservedProgram(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An eval program as the job's own report has it. Times are epoch seconds; None: not known."""

    kind: str
    started_at: float
    ended_at: float | None = None
    verb: str | None = None
    words: tuple[str, ...] | None = None
    options: dict[str, tuple[str, ...]] | None = None
    environment: dict[str, str] = {}
    cwd: str | None = None
    wrote: tuple[Written, ...] = ()
    is_cut: bool = False
    is_in_pid_namespace: bool = False

    def values(self, option: str) -> tuple[str, ...]:
        """Those that were given to an option."""
        return (self.options or {}).get(option, ())

    def has_arguments(self, option: str, arguments: Mapping[str, Any] | None) -> bool:
        """Whether each `name=value` of an option is among the log's arguments; True where these are not known."""
        pairs = [pair.partition("=")[::2] for pair in self.values(option) if "=" in pair]
        return arguments is None or all(_is_same(arguments.get(name), text) for name, text in pairs)


def _is_same(value: object, text: str) -> bool:
    """Whether an argument's value can be what was typed; of what is no scalar nobody knows."""
    if isinstance(value, bool):
        return text.lower() in (("true", "yes", "on", "1") if value else ("false", "no", "off", "0"))
    if isinstance(value, int | float):
        with suppress(ValueError):
            return float(text) == value
        return False
    if isinstance(value, str) and not value.startswith(("[", "{")):
        return value == text.strip("'\"")
    return value is not None or text in {"null", "~", ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of eval."""

    name: str
    runs: re.Pattern[str]
    """Matches in a script's text if that runs such an eval."""
    program: WatchedProgram
    """Its program, which a job's own report names."""
    is_nested: bool = False
    """Whether its logs may also lie in the directories right below the one that it was told."""
    files: re.Pattern[str]
    """Fits the whole name of a file that may be one of its logs."""
    begin: re.Pattern[bytes]
    """How the text of a log begins that is no archive: other people's files are left alone soon."""
    archive: str | None = None
    """How the name of an archive ends."""
    members: frozenset[str] = frozenset()
    """What is read of an archive."""
    closing: re.Pattern[str] | None = None
    """Matches in a job's output where its program names a log that it has finished; the path follows, wrapped."""
    agrees: Callable[[ObservedProgram, EvalLog], bool]
    """Whether nothing that a program was told contradicts the log."""
    names_task: Callable[[ObservedProgram, EvalLog], bool | None] = lambda _program, _log: None
    """Whether a program that agrees was told the log's task by its name; None: it may have any task."""
    read: Callable[[LogFile], EvalLog | None]
    """The log; None if the file is none of this kind."""

    def directory_of(self, program: ObservedProgram) -> str | None:
        """Where its logs go; None if that is not known."""
        table = self.program
        if program.options is None:
            return None
        given = self.given_directory(program)
        if given is None and (table.settings_option in program.options or table.default_directory is None):
            return None
        directory = (given or table.default_directory or "").removeprefix("file://")
        if not os.path.isabs(directory):
            if program.cwd is None or "://" in directory:
                return None
            directory = os.path.join(program.cwd, directory)
        directory = os.path.normpath(directory)
        # A file's name instead of a directory's: it lies beside that.
        return os.path.dirname(directory) if directory.endswith(".json") else directory

    def given_directory(self, program: ObservedProgram) -> str | None:
        """The directory, file or URL that it was told."""
        given = program.values(self.program.directory_option) or tuple(filter(None, program.environment.values()))
        return given[-1] if given else None

    def settings_of(self, program: ObservedProgram) -> str | None:
        """The path of the file with its settings; None if it was told none, or where that lies is not known."""
        given = program.values(self.program.settings_option or "")
        return os.path.normpath(os.path.join(program.cwd, given[-1])) if given and program.cwd else None

    def configured(self, program: ObservedProgram, directories: Mapping[str, str]) -> ObservedProgram:
        """With the directory that its settings file names: by that file's path, "" if it names none."""
        directory = directories.get(self.settings_of(program) or "")
        options = program.options
        if options is None or directory is None or self.program.directory_option in options:
            return program
        told = {self.program.directory_option: (directory,)} if directory else {}
        rest = {name: values for name, values in options.items() if name != self.program.settings_option}
        return replace(program, options=rest | told)

    def writes_none(self, program: ObservedProgram) -> bool:
        """Whether it was told no directory, and writes nothing then."""
        table, options = self.program, program.options
        is_told = options is None or table.settings_option in options or self.given_directory(program) is not None
        return table.default_directory is None and not is_told
