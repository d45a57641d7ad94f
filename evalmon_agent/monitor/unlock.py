"""Releases the lock of a process on a dead node, once Slurm says that its job is over; never by age."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.experiment import heartbeat
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import locked, release_for, stranded_holder
from evalmon_agent.experiment.heartbeat import Heartbeat
from evalmon_agent.files.lock import WAIT_S
from evalmon_agent.files.marker import Holder
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.environment import own_job_id
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import TERMINAL


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
    last = heartbeat.load(experiment.observer)
    if holder is None or last is None or last.job_id is None or not _is_same(holder, last):
        return False
    # This job's earlier run ended before this one began.
    earlier_run = last.job_id == own_job_id(os.environ)
    return (earlier_run or _is_over(slurm, last.job_id)) and release_for(experiment, holder)


def _is_same(holder: Holder, last: Heartbeat) -> bool:
    return holder.pid == last.pid and holder.host.partition("?")[0] == last.host.partition("?")[0]


def _is_over(slurm: Slurm, job_id: JobId) -> bool:
    queue = slurm.queue()
    if isinstance(queue, Failure):
        return False
    states = [row.state for row in queue.rows if row.job_id == job_id]
    if not states:
        account = slurm.account([job_id])
        states = [] if isinstance(account, Failure) else [job.state for job in account.jobs[-1:]]
    return bool(states) and all(state in TERMINAL for state in states)
