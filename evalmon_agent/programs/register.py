"""How is a job submitted so that it is never submitted twice: intent, sbatch, acceptance.

The intent is on disk before sbatch runs, and its token stands in the path of the submitted script. Whoever finds
an intent without an outcome, whose submitter is dead, looks for the token among the jobs instead of guessing.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from evalmon_agent.errors import LockUnavailableError, SlurmUnavailableError
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.programs.own_path import home_of, lead_home
from evalmon_agent.slurm import sbatch
from evalmon_agent.slurm.client import Slurm, Submitted
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.store import registry, reports
from evalmon_agent.store import state as state_file
from evalmon_agent.store.experiment import Experiment
from evalmon_agent.store.lock import locked
from evalmon_agent.tracking.registry import Abandoned, Accepted, Entry, Intent, Refused, What, entries

IN_FLIGHT_S = 15.0
"""How long after its intent a job may still turn up, though sbatch was killed with its submitter."""

SECOND_LOOK_S = 2.0
"""Between two looks for a job that is not there."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one submission; `job_id` is None if Slurm refused it or nobody knows (`unknown`)."""

    job_id: str | None
    refusal: str = ""
    unknown: bool = False


def new_token() -> str:
    """A name for one submission that nobody else has."""
    return os.urandom(8).hex()


def claim(
    experiment: Experiment,
    token: str,
    what: What,
    *,
    name: str | None = None,
    script: str | None = None,
    output_dir: str | None = None,
    tasks: Sequence[int] | None = None,
) -> bool:
    """Put the intent on record; False if somebody else has claimed or submitted this eval meanwhile."""
    with locked(experiment):
        if what == "eval" and any(
            entry.intent.name == name and (entry.is_open or entry.accepted is not None)
            for entry in entries(registry.read(experiment.registry))
            if entry.intent.what == "eval"
        ):
            return False
        listed = None if tasks is None else list(tasks)
        registry.append(
            experiment.registry,
            Intent(token, what, time.time(), socket.gethostname(), os.getpid(), name, script, output_dir, listed),
        )
        return True


def write_script(experiment: Experiment, token: str, parts: Sequence[str], content: bytes) -> str:
    """Write one file of a submission, executable for us alone, and return its path."""
    directory = experiment.directory
    for part in (os.path.basename(experiment.scripts), token, *parts[:-1]):
        directory = os.path.join(directory, part)
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
    path = os.path.join(directory, parts[-1])
    replace_atomically(path, content, mode=0o700)
    return path


def submit(
    experiment: Experiment,
    slurm: Slurm,
    token: str,
    path: str,
    *,
    options: Sequence[str] = (),
    cwd: str,
    ours: bool = False,
) -> Outcome:
    """Run sbatch for a claimed token and record what it said. `ours`: a job of ours, not an eval."""
    said: Submitted = slurm.submit(sbatch.argv(path, options=options), cwd=cwd, ours=ours)
    with locked(experiment):
        if said.job_id is not None:
            registry.append(experiment.registry, Accepted(token, str(said.job_id), time.time(), cluster=said.cluster))
            lead_home(path, cwd)
            return Outcome(str(said.job_id))
        if not said.unknown:
            registry.append(experiment.registry, Refused(token, said.refusal, time.time()))
    return Outcome(None, said.refusal, said.unknown)


def confirm(experiment: Experiment, token: str | None, job_id: str | None) -> None:
    """A job of ours that runs is one that Slurm took, whatever its submitter lived to write down.

    Where that cannot be written now, it is left to `resolve`.
    """
    if token is None or job_id is None:
        return
    with suppress(OSError, LockUnavailableError), locked(experiment):
        found = entries(registry.read(experiment.registry))
        if any(entry.intent.token == token and entry.accepted is None for entry in found):
            registry.append(experiment.registry, Accepted(token, job_id, time.time()))


def resolve(experiment: Experiment, slurm: Slurm, *, sleep: Callable[[float], None] = time.sleep) -> list[Entry]:
    """All entries, after every intent whose submitter is gone was resolved by looking for its job.

    SlurmUnavailableError if Slurm cannot be asked: without it nothing may be submitted again.
    """
    found = entries(registry.read(experiment.registry))
    orphans = [entry for entry in found if entry.is_open and not _is_alive(entry.intent)]
    if not orphans:
        return found
    jobs = _jobs_by_token(experiment, slurm, orphans)
    if len(jobs) < len(orphans):
        # Not there once is no proof: it may be on its way still, or the answer had a hole.
        youngest = max(entry.intent.at for entry in orphans)
        sleep(min(max(youngest + IN_FLIGHT_S - time.time(), SECOND_LOOK_S), IN_FLIGHT_S))
        jobs |= _jobs_by_token(experiment, slurm, orphans)
    with locked(experiment):
        for entry in orphans:
            token, now = entry.intent.token, time.time()
            job_id = jobs.get(token)
            registry.append(
                experiment.registry,
                Abandoned(token, now) if job_id is None else Accepted(token, job_id, now),
            )
            if job_id is not None and entry.intent.script is not None:
                lead_home(home_of(experiment, token, entry.intent.script), os.path.dirname(entry.intent.script))
    return entries(registry.read(experiment.registry))


def _jobs_by_token(experiment: Experiment, slurm: Slurm, orphans: Sequence[Entry]) -> dict[str, str]:
    """The jobs that bear these tokens: in squeue by their script's path, or by their own reports."""
    answer = slurm.queue()
    if isinstance(answer, Failure):
        raise SlurmUnavailableError(
            f"an interrupted submission cannot be resolved, Slurm does not answer ({answer.line}); try again later"
        )
    if not answer.rows and _has_active(experiment):
        raise SlurmUnavailableError(
            "an interrupted submission cannot be resolved: squeue shows no job at all, not even those that are "
            f"active here; try again after: evalmon status {experiment.root}"
        )
    tokens = {entry.intent.token for entry in orphans}
    found = {t: str(r.job_id.job) for r in answer.rows for t in tokens if f"/{t}/" in r.command}
    for report in reports.changed(experiment.jobs, {}):
        for token in report.tokens & tokens:
            found.setdefault(token, report.job_id.partition("_")[0].partition("+")[0])
    return found


def _has_active(experiment: Experiment) -> bool:
    state = state_file.load(experiment)
    return state is not None and any(not ev.final for ev in state.evals.values())


def _is_alive(intent: Intent) -> bool:
    """Whether the submitter may still be at work; on another host that cannot be seen, so time decides."""
    if intent.host != socket.gethostname():
        return time.time() - intent.at < IN_FLIGHT_S * 20
    if intent.pid == os.getpid():
        return False
    try:
        # A process younger than the intent has merely got the same pid; a zombie submits nothing more.
        process = psutil.Process(intent.pid)
        return process.create_time() <= intent.at and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
