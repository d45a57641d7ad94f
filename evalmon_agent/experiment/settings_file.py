"""Reads EXP/evalmon.yaml, and keeps the settings with which a monitor job was submitted.

Also checks whether others can read the URLs in it, or can replace the experiment, unless a setting allows that.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePath

import msgspec

from evalmon_agent.errors import UnreadableError, UnsafeDirectoryError, UsageError
from evalmon_agent.experiment import versioned
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.permissions import exposed, user_name, writers
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.files.trusted import ForeignError, open_file, read_at
from evalmon_agent.settings import FAST_POLLING, MAX_BYTES, Settings, parse

SCHEMA = 1


def load(path: str, *, environ: Mapping[str, str], owner: int | None = None) -> Settings:
    """The settings at `path`, or the defaults if there is no such file. UnreadableError (78) names the key.

    They choose options of jobs that run as this user, so another user's file (or link), or one that others can write,
    is refused, though EXP may be theirs to write. `owner`: whose experiment is only read, with that user's settings, or
    the defaults if those may not be read.
    """
    try:
        data = _read(path, owner)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        if isinstance(error, PermissionError) and owner not in {None, os.geteuid()}:
            return Settings()
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(data, path=path, fast_polling=environ.get(FAST_POLLING) == "1")


class _Kept(Settings, frozen=True):
    schema: int = SCHEMA


_decoder = msgspec.json.Decoder(_Kept)


def keep(path: str, settings: Settings) -> None:
    """Record the settings with which a monitor job is submitted, without those that may hold secrets."""
    kept = msgspec.structs.asdict(msgspec.structs.replace(settings, notify=[], notify_command=None))
    replace_atomically(path, msgspec.json.encode(_Kept(**kept)), mode=0o600)


def load_or_kept(path: str, *, kept: str | None, environ: Mapping[str, str]) -> tuple[Settings, str]:
    """The user's settings and ""; if they are invalid, the kept ones or else the defaults, and why.

    A monitor job may start long after its submission: a bad edit since then must not cost the summary.
    """
    try:
        return load(path, environ=environ), ""
    except UnreadableError as error:
        why = str(error)
    known: Settings | None = None
    if kept is not None:
        with suppress(UnreadableError, UsageError, OSError):
            known = versioned.load(kept, _decoder, schema=SCHEMA, max_bytes=MAX_BYTES)
    return known or Settings(), why


def _open(path: str, owner: int | None) -> int:
    """Read a file of this user, or of the experiment's owner."""
    try:
        return open_file(path, owner=os.geteuid())
    except ForeignError as error:
        if error.uid != owner:
            raise
        return open_file(path, owner=owner)


def _read(path: str, owner: int | None) -> bytes:
    """Its first bytes, one more than settings may have. It may be a link of this user; a FIFO is not waited for."""
    try:
        descriptor = _open(path, owner)
    except ForeignError as error:
        raise UnreadableError(
            f"{error.filename}: belongs to {user_name(error.uid)}, and settings choose what runs as you; remove it, or "
            "make a copy of your own that has its name"
        ) from None
    try:
        whom = writers(path, os.fstat(descriptor))
        if whom is not None:
            raise UnreadableError(f"{path}: settings choose what runs as you, and {whom}")
        return read_at(descriptor, 0, MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def refuse_world_writable(experiment: Experiment, settings: Settings) -> None:
    """UnsafeDirectoryError if anybody could replace the experiment, unless a setting allows that."""
    worst = next((place for place in exposed(experiment.root) if place.by_anybody), None)
    if worst is not None and not settings.allow_world_writable:
        raise UnsafeDirectoryError(
            f"{worst.path}: anybody can rename and replace what lies there; {worst.advice}; or set "
            f"allow_world_writable: true in {experiment.settings}"
        )


def readable_urls(path: str, settings: Settings) -> tuple[str, str] | None:
    """That others can read the URLs of `notify`, and what prevents it; None if nobody can, or there are none."""
    try:
        mode = os.stat(path).st_mode if settings.notify else 0
        on_the_way = [os.stat(parent).st_mode for parent in PurePath(path).parents]
    except OSError:
        return None
    by_anybody = mode & stat.S_IROTH and all(above & stat.S_IXOTH for above in on_the_way)
    by_the_group = mode & stat.S_IRGRP and on_the_way[0] & stat.S_IXGRP
    if not (by_anybody or by_the_group):
        return None
    whom = "anybody" if by_anybody else "its group"
    return (
        f"{path}: {whom} can read the URLs of notify, which may hold passwords",
        f"run: chmod 600 {shlex.quote(path)}",
    )
