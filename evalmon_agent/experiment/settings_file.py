"""Reads EXP/evalmon.yaml, and keeps the settings with which a monitor job was submitted."""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from evalmon_agent.errors import UnreadableError, UsageError
from evalmon_agent.experiment import versioned
from evalmon_agent.files.permissions import user_name, writers
from evalmon_agent.files.private import read_private
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
    try:
        return (_load_kept(kept) if kept is not None else None) or Settings(), why
    except (UnreadableError, UsageError, OSError):
        return Settings(), why


def _load_kept(path: str) -> Settings | None:
    data = read_private(path, max_bytes=MAX_BYTES) or b""
    return versioned.decode(data, _decoder, path=path, schema=SCHEMA)


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
