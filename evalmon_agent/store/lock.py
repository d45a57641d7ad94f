"""lock.json: which kind of lock this experiment uses, chosen once and obeyed by every host."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import msgspec

from evalmon_agent.errors import UnreadableError
from evalmon_agent.files.lock import WAIT_S, held
from evalmon_agent.files.mounts import Mount, lock_kind, mount_of, parse_mountinfo
from evalmon_agent.store.experiment import Experiment

SCHEMA = 1


class Choice(msgspec.Struct, frozen=True):
    """The kind, and why: the file system's type, and the host that chose."""

    kind: Literal["flock", "soft"]
    filesystem: str | None
    host: str
    schema: int = SCHEMA


_decoder = msgspec.json.Decoder(Choice)


@contextmanager
def locked(experiment: Experiment, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the experiment's lock for one transaction (LockUnavailableError, 75, where it cannot be had)."""
    with held(experiment.lock, choice(experiment).kind, wait_s=wait_s):
        yield


def choice(experiment: Experiment) -> Choice:
    """The recorded choice; the first caller makes it. Two first callers agree: O_EXCL lets one of them write."""
    recorded = _read(experiment.lock_choice)
    if recorded is not None:
        return recorded
    mount = _mount(experiment.directory)
    made = Choice(lock_kind(mount), mount.fstype if mount else None, socket.gethostname())
    temporary = f"{experiment.lock_choice}.{os.getpid()}.{os.urandom(6).hex()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(msgspec.json.encode(made))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, experiment.lock_choice)
        except FileExistsError:
            return _read(experiment.lock_choice) or made
    finally:
        os.unlink(temporary)
    return made


def _read(path: str) -> Choice | None:
    try:
        with open(path, "rb") as file:
            return _decoder.decode(file.read(4096))
    except FileNotFoundError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise UnreadableError(f"{path}: cannot be read ({error}); remove it while no monitor runs") from None


def _mount(path: str) -> Mount | None:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return mount_of(path, parse_mountinfo(file.read()))
    except OSError:
        return None
