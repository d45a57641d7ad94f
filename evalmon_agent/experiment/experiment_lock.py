"""Holds the experiment's lock, of the kind that lock.json says; the first host chooses it, every other host obeys.

The lock of a process on a dead node is released once Slurm says that its job is over; never by age.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Literal

import msgspec

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.experiment import versioned
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.state import load_heartbeat
from evalmon_agent.files import lock
from evalmon_agent.files.lock import WAIT_S, Holder, Hurry, flock_works, held, publish
from evalmon_agent.files.proc import Mount, is_exported, lock_kind, mount_of, parse_mountinfo, same_flock
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.environment import own_job_id
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import TERMINAL

SCHEMA = 1
_EXPORTS = "/var/lib/nfs/etab"
"""What exportfs(8) gave the kernel's NFS server."""


class Choice(msgspec.Struct, frozen=True):
    """The kind of lock, and why: the file system's type, the host that chose it, and its reason."""

    kind: Literal["flock", "soft"]
    filesystem: str | None
    host: str
    why: str | None = None
    schema: int = SCHEMA


_decoder = msgspec.json.Decoder(Choice)


@contextmanager
def locked(
    experiment: Experiment, *, wait_s: float = WAIT_S, hurry: Hurry | None = None, wherever_it_is: bool = False
) -> Iterator[None]:
    """Hold the experiment's lock for one transaction (LockUnavailableError, 75, where it cannot be acquired).

    ReplacedError (77): the experiment's path now leads to another directory. `wherever_it_is`: ignore that.
    """
    if not wherever_it_is:
        experiment.check_place()
    made = choice(experiment)
    if made.kind == "flock" and not same_flock(made.filesystem, mount_at(experiment.directory)):
        raise LockUnavailableError(
            f"{experiment.lock}: this host's locks on it are not seen by the host that chose them, {made.host}; run "
            f"evalmon there, or once no monitor runs remove {experiment.lock_choice} and begin here"
        )
    with held(experiment.lock, made.kind, wait_s=wait_s, hurry=hurry):
        yield


def stranded_holder(experiment: Experiment) -> Holder | None:
    """The holder of the lock on another host, of which only Slurm knows whether it is alive; None if there is none."""
    made = recorded(experiment)
    holder = lock.holder_of(experiment.lock) if made is not None and made.kind == "soft" else None
    return None if holder is None or holder.is_here else holder


def choice(experiment: Experiment) -> Choice:
    """The recorded choice; the first caller makes it, also if two call at once."""
    known = recorded(experiment)
    if known is not None:
        return known
    made = would_choose(experiment.directory, probe=experiment.by_descriptor)
    if publish(experiment.lock_choice, msgspec.json.encode(made)):
        return made
    return recorded(experiment) or made


def recorded(experiment: Experiment) -> Choice | None:
    """The choice that was made; None if there is none yet."""
    return versioned.read(experiment.lock_choice, _decoder, schema=SCHEMA)


def would_choose(directory: str, *, probe: str | None = None) -> Choice:
    """What this host would choose for this directory; writes a temporary file there, to see whether flock works.

    `probe`: its path for that, if it is another one.
    """
    mount = mount_at(directory)
    kind, why = lock_kind(mount)
    if kind == "flock" and _is_served_to_others(directory):
        kind, why = "soft", f"{why}, but not those of the clients that this NFS server serves it to"
    if kind == "flock" and not flock_works(probe or directory):
        kind, why = "soft", f"{why}, but flock is refused here"
    return Choice(kind, mount.fstype if mount else None, socket.gethostname(), why)


def _is_served_to_others(directory: str) -> bool:
    with suppress(OSError), open(_EXPORTS, encoding="utf-8", errors="surrogateescape") as file:
        return is_exported(directory, file.read())
    return False


def mount_at(path: str) -> Mount | None:
    """The mount on this host of an absolute, resolved path; None if unknown."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return mount_of(path, parse_mountinfo(file.read()))
    except OSError:
        return None


@contextmanager
def locked_on_proof(experiment: Experiment, slurm: Slurm, *, wait_s: float = WAIT_S) -> Iterator[None]:
    """Hold the experiment's lock like `locked`, even if a job that is certainly over still seems to hold it.

    After a signal to stop, it waits only briefly and does not ask Slurm.
    """
    hurry = slurm.stopped
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(experiment, wait_s=wait_s, hurry=hurry))
        except LockUnavailableError:
            if (hurry is not None and hurry()) or not release_if_over(experiment, slurm):
                raise
            stack.enter_context(locked(experiment, wait_s=wait_s, hurry=hurry))
        yield


def release_if_over(experiment: Experiment, slurm: Slurm) -> bool:
    """Remove the lock of a process on another host if that was the observer, and Slurm says that its job is over."""
    holder = stranded_holder(experiment)
    last = load_heartbeat(experiment)
    if holder is None or last is None or last.job_id is None:
        return False
    if (holder.pid, holder.host.partition("?")[0]) != (last.pid, last.host.partition("?")[0]):
        return False
    # This job's earlier run ended before this one began.
    earlier_run = last.job_id == own_job_id(os.environ)
    return (earlier_run or _is_over(slurm, last.job_id)) and lock.remove_marker_of(experiment.lock, holder)


def _is_over(slurm: Slurm, job_id: JobId) -> bool:
    queue = slurm.queue()
    if isinstance(queue, Failure):
        return False
    states = [row.state for row in queue.rows if row.job_id == job_id]
    if not states:
        account = slurm.account([job_id])
        states = [] if isinstance(account, Failure) else [job.state for job in account.jobs[-1:]]
    return bool(states) and all(state in TERMINAL for state in states)
