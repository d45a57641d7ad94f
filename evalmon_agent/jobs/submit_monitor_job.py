"""Submits the monitor jobs (sidecar and completion job), prepared like evals, and never twice."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

from evalmon_agent.experiment import scripts, settings_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs.claims import claim
from evalmon_agent.jobs.register import submit, uninterrupted
from evalmon_agent.session import Session
from evalmon_agent.settings import MonitorJobSettings
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.slurm.sbatch import Submitted, read_head
from evalmon_agent.slurm.sinfo import Partition, is_exclusive
from evalmon_agent.submission.monitor_script import (
    MonitorJobKind,
    Placement,
    cut_time,
    options,
    placement_of,
    script,
    time_min,
)
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.registry import Entry
from evalmon_agent.words.job_id import JobId, array_task, without_component

_HEADS_READ = 50
MAX_DEPENDENCIES = 5000
"""Ids in one --dependency: well below the 128 KiB that one argument may have."""
WAITING_BEGIN_S = 300
"""How much later a completion job starts that waits only for room for more evals."""


@uninterrupted()
def submit_monitor_job(
    session: Session, kind: MonitorJobKind, *, afterany: Sequence[JobId] = (), later_s: float = 0.0
) -> Submitted:
    """Submit a sidecar, or a completion job after these jobs, `later_s` from now at the earliest.

    A sidecar that would take a node is refused.
    """
    job: MonitorJobSettings = getattr(session.settings, kind)
    place = _place(session)
    where = job.partition or place.partition
    partitions = _partitions(session)
    if kind == "sidecar" and is_exclusive(where, partitions, linear=session.slurm.gives_whole_nodes()):
        return Submitted(refusal=f"partition {where or '(default)'} gives whole nodes; a sidecar would take one")
    submission = claim(session.experiment, kind)
    token = submission.token
    text = script(
        kind,
        session.experiment.root,
        interpreter=sys.executable,
        token=token,
        experiment_id=session.experiment.id,
        environ=session.environ,
        group_readable=session.settings.group_readable,
    )
    scripts.write(session.experiment, token, [f"evalmon-{kind}"], text.encode(errors="surrogateescape"))
    settings_file.keep(session.experiment.kept_settings(token), session.settings)
    time_limit = cut_time(job.time, where, partitions)
    argv = options(
        job,
        place,
        kind=kind,
        time_limit=time_limit,
        afterany=afterany[-MAX_DEPENDENCIES:],
    )
    if later_s:
        argv.append(f"--begin=now+{later_s:.0f}")
    if kind == "sidecar":
        argv += time_min(time_limit)
    if kind == "completion" and session.settings.mail_user:
        argv += [f"--mail-user={session.settings.mail_user}", "--mail-type=END,FAIL"]
    return submit(session, submission, options=argv)


def _place(session: Session) -> Placement:
    """Partition, account and qos of the evals, from the launchers that Slurm accepted."""
    accepted = [entry for entry in session.experiment.ledger.entries() if entry.is_eval and entry.accepted is not None]
    return placement_of([_options(session, entry) for entry in accepted[-_HEADS_READ:]], session.environ)


def _options(session: Session, entry: Entry) -> Mapping[str, str]:
    """The options of an eval's script; for an adopted job what Slurm gave it."""
    if entry.adopted is None:
        launcher = scripts.read_launcher(session.experiment, entry.token, entry.submission.script)
        return read_head((launcher or b"").decode(errors="surrogateescape")).options
    given = (entry.adopted.partition, entry.adopted.account, entry.adopted.qos)
    return {key: value for key, value in zip(("partition", "account", "qos"), given, strict=True) if value}


def _partitions(session: Session) -> tuple[Partition, ...]:
    answer = session.slurm.partitions()
    return () if isinstance(answer, Failure) else answer


def active_jobs(experiment: Experiment, state: ExperimentState | None) -> list[JobId]:
    """The job ids, arrays once, of all evals that are not over: what a completion job waits for.

    Including jobs that are not registered but report to this experiment: a completion job that did not wait for
    them would submit one successor after the other.
    """
    over = set(_over(state)) if state is not None else set()
    active: dict[JobId, None] = {}
    registered: set[JobId] = set()
    for entry in experiment.ledger.entries():
        if not entry.is_eval or entry.accepted is None:
            continue
        job_id = entry.accepted.job_id
        tasks = entry.submission.tasks
        ids = [job_id] if tasks is None else [array_task(job_id, task) for task in tasks]
        registered.update(ids)
        if not over.issuperset(ids):
            active[job_id] = None
    for ev in state.evals.values() if state is not None else ():
        if not ev.final and ev.job_id not in registered and all(job.token is None for job in ev.jobs):
            active[without_component(ev.job_id)] = None
    return list(active)


def _over(state: ExperimentState) -> Iterator[JobId]:
    """The jobs of evals that are over, and of those that were submitted again, all but the latest."""
    for ev in state.evals.values():
        yield from (job.job_id for job in (ev.jobs if ev.final else ev.jobs[:-1]))
