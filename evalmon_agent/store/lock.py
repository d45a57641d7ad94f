"""lock.json: which kind of lock this experiment uses, chosen once and obeyed by every host."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import msgspec

from evalmon_agent.errors import LockUnavailableError, UnreadableError
from evalmon_agent.files import soft_lock
from evalmon_agent.files.holder import Holder
from evalmon_agent.files.lock import WAIT_S, held
from evalmon_agent.files.mounts import Mount, lock_kind, mount_of, parse_mountinfo
from evalmon_agent.files.private import read_private
from evalmon_agent.store.experiment import Experiment

SCHEMA = 1
_MAX_BYTES = 4096
_WRITTEN_WITHIN_S = 0.5


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
    kind = choice(experiment).kind
    if kind == "flock" and lock_kind(_mount(experiment.directory)) != "flock":
        raise LockUnavailableError(
            f"{experiment.lock}: this host's locks on it are not seen by the host that chose them; run evalmon there"
        )
    with held(experiment.lock, kind, wait_s=wait_s):
        yield


def stranded_holder(experiment: Experiment) -> Holder | None:
    """Who holds the lock on another host, so that only Slurm can tell whether it lives; None if nobody does."""
    recorded = _read(experiment.lock_choice)
    holder = soft_lock.holder_of(experiment.lock) if recorded is not None and recorded.kind == "soft" else None
    return None if holder is None or holder.is_here else holder


def release_for(experiment: Experiment, gone: Holder) -> bool:
    """Take the lock away from a holder that has certainly ended; False if it had given it back."""
    return soft_lock.remove_marker_of(experiment.lock, gone)


def choice(experiment: Experiment) -> Choice:
    """The recorded choice; the first caller makes it, and of two first callers one."""
    recorded = _read(experiment.lock_choice)
    if recorded is not None:
        return recorded
    mount = _mount(experiment.directory)
    made = Choice(lock_kind(mount), mount.fstype if mount else None, socket.gethostname())
    if _publish(experiment.lock_choice, msgspec.json.encode(made)):
        return made
    return _read(experiment.lock_choice) or made


def _publish(path: str, data: bytes) -> bool:
    """Make the file, whole; False if it is there already."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.{os.urandom(8).hex()}.tmp")
    try:
        _create(temporary, data)
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in soft_lock.NO_LINKS:
            raise
        return _create_unless_there(path, data)
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    return True


def _create_unless_there(path: str, data: bytes) -> bool:
    try:
        _create(path, data)
    except FileExistsError:
        return False
    return True


def _create(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    except OSError:
        with suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _read(path: str) -> Choice | None:
    """The choice; without hard links another process may be writing it just now."""
    deadline = time.monotonic() + _WRITTEN_WITHIN_S
    while True:
        try:
            found = _decoder.decode(read_private(path, max_bytes=_MAX_BYTES) or b"")
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            raise UnreadableError(f"{path}: cannot be read ({error}); remove it while no monitor runs") from None
        if found.schema > SCHEMA:
            raise UnreadableError(f"{path}: written by a newer evalmon; upgrade this one")
        return found


def _mount(path: str) -> Mount | None:
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return mount_of(path, parse_mountinfo(file.read()))
    except OSError:
        return None
