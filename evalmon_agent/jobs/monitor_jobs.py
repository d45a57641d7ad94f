"""Submits the monitor jobs (sidecar and completion job), prepared like evals, and never twice."""

from __future__ import annotations

import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from evalmon_agent.experiment import scripts, settings_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.jobs.register import claim, submit, uninterrupted
from evalmon_agent.session import Session
from evalmon_agent.settings import FAST_POLLING, MonitorJobSettings
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.slurm.sbatch import Submitted, read_head
from evalmon_agent.slurm.sinfo import Partition, is_exclusive, named_partitions
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.registry import Entry
from evalmon_agent.words.durations import time_option
from evalmon_agent.words.job_id import JobId, array_task, without_component

MonitorJobKind = Literal["sidecar", "completion"]
_COMMAND: Mapping[MonitorJobKind, str] = {"sidecar": "sidecar", "completion": "complete"}

_HEADS_READ = 50
MAX_DEPENDENCIES = 5000
"""Ids in one --dependency: well below the 128 KiB that one argument may have."""
WAITING_BEGIN_S = 300
"""How much later a completion job starts that waits only for room for more evals."""
TIME_MIN_S = 600
"""The shortest limit of a sidecar: Slurm may cut its limit to this, to start it in a gap before pending evals."""
_PLACE = {"partition": "SBATCH_PARTITION", "account": "SBATCH_ACCOUNT", "qos": "SBATCH_QOS"}
"""Where a job runs: sbatch's options, and the variables that override a script's."""
_PASSED_ON = ("PATH", "SLURM_CONF", "SLURM_CLUSTERS", FAST_POLLING, "TZ", *_PLACE.values())

# The directory is entered first and then checked, so that nothing else can be put in its place: it must be this user's
# and this experiment's, and writable by nobody else. The umask is given back: evals that this job submits inherit it.
_OPEN_OUTPUT = """\
if cd -P -- {directory} && [ -O . ] && [ -f registry.jsonl ]; then
  case $(/bin/ls -ld .) in
  d????-??-*)
    umask=$(umask)
    umask {umask}
    {is_this_one}true >>"{kind}-$SLURM_JOB_ID.out" && exec >>"{kind}-$SLURM_JOB_ID.out" 2>&1
    umask "$umask"
    ;;
  esac
fi
cd /
"""
_IS_THIS_ONE = 'read -r identity <experiment.json && [ "${{identity#{start}}}" != "$identity" ] && '
"""experiment.json begins with the id."""


@uninterrupted()
def submit_monitor_job(
    session: Session, kind: MonitorJobKind, *, afterany: Sequence[JobId] = (), later_s: float = 0.0
) -> Submitted:
    """Submit a sidecar, or a completion job after these jobs, `later_s` from now at the earliest.

    A sidecar that would take a node is refused.
    """
    experiment, settings = session.experiment, session.settings
    job = placed(getattr(settings, kind), _options_of_evals(experiment), session.environ)
    answer = session.slurm.partitions()
    partitions = () if isinstance(answer, Failure) else answer
    if kind == "sidecar" and is_exclusive(job.partition, partitions, linear=session.slurm.gives_whole_nodes()):
        where = job.partition or "(default)"
        return Submitted(refusal=f"partition {where} gives whole nodes; a sidecar would take one")
    submission = claim(experiment, kind)
    text = script(
        kind,
        experiment.root,
        interpreter=sys.executable,
        token=submission.token,
        experiment_id=experiment.id,
        environ=session.environ,
        group_readable=settings.group_readable,
    )
    scripts.write(experiment, submission.token, [f"evalmon-{kind}"], text.encode(errors="surrogateescape"))
    settings_file.keep(experiment.kept_settings(submission.token), settings)
    argv = options(job, kind, partitions, afterany=afterany[-MAX_DEPENDENCIES:])
    if later_s:
        argv.append(f"--begin=now+{later_s:.0f}")
    if kind == "completion" and settings.mail_user:
        argv += [f"--mail-user={settings.mail_user}", "--mail-type=END,FAIL"]
    return submit(session, submission, options=argv)


def placed(
    job: MonitorJobSettings, evals: Sequence[Mapping[str, str]], environ: Mapping[str, str]
) -> MonitorJobSettings:
    """The job where the evals run: the partition, account and qos that most of their options have.

    The settings override them, and sbatch's variables override the scripts' options.
    """
    place: dict[str, str | None] = {}
    for key, variable in _PLACE.items():
        values = Counter(options[key] for options in evals if options.get(key))
        commonest = max(values, key=values.__getitem__, default=None)
        place[key] = getattr(job, key) or environ.get(variable) or commonest
    return replace(job, **place)


def _options_of_evals(experiment: Experiment) -> list[Mapping[str, str]]:
    """Those of the scripts, from the launchers that Slurm accepted, or what Slurm gave adopted jobs."""
    accepted = [entry for entry in experiment.ledger.entries() if entry.is_eval and entry.accepted is not None]
    return [_options(experiment, entry) for entry in accepted[-_HEADS_READ:]]


def _options(experiment: Experiment, entry: Entry) -> Mapping[str, str]:
    if entry.adopted is None:
        launcher = scripts.read_launcher(experiment, entry.token, entry.submission.script)
        return read_head((launcher or b"").decode(errors="surrogateescape")).options
    return {key: value for key in _PLACE if (value := getattr(entry.adopted, key))}


def script(
    kind: MonitorJobKind,
    experiment: str,
    *,
    interpreter: str,
    token: str,
    experiment_id: str | None,
    environ: Mapping[str, str],
    group_readable: bool = False,
) -> str:
    """The batch script of a monitor job. It needs no environment, since some sites pass none on.

    It opens its output itself: Slurm would follow a link that somebody put in the place of EXP/evalmon, and give the
    file the mode that the umask leaves. What cannot be opened safely is not written; the job goes on.
    """
    own_options = ["--token", token, *(["--experiment-id", experiment_id] if experiment_id is not None else [])]
    words = [interpreter, "-E", "-P", "-m", "evalmon_agent", _COMMAND[kind], *own_options, "--", experiment]
    exports = [f"export {key}={shlex.quote(environ[key])}" for key in _PASSED_ON if environ.get(key)]
    start = shlex.quote(f'{{"id":"{experiment_id}"')
    output = _OPEN_OUTPUT.format(
        directory=shlex.quote(os.path.join(experiment, "evalmon")),
        is_this_one="" if experiment_id is None else _IS_THIS_ONE.format(start=start),
        kind=kind,
        umask="027" if group_readable else "077",
    )
    return "\n".join(["#!/bin/sh", *exports, f"{output}exec {shlex.join(words)}", ""])


def options(
    job: MonitorJobSettings, kind: MonitorJobKind, partitions: Sequence[Partition], *, afterany: Sequence[str] = ()
) -> list[str]:
    """sbatch's options for a monitor job, without the script's path.

    It never gets the evals' gres. A sidecar submits a successor before any limit and so may start with a shorter one.
    """
    time_limit = cut_time(job.time, job.partition, partitions)
    argv = [
        f"--job-name=evalmon-{kind}",
        "--output=/dev/null",
        f"--time={time_limit}",
        f"--mem={job.mem}",
        "--nodes=1",
        "--ntasks=1",
        "--requeue",
        *(f"--{key}={value}" for key in _PLACE if (value := getattr(job, key))),
    ]
    if afterany:
        argv.append("--dependency=afterany:" + ":".join(afterany))
    argv += job.extra
    limit_s = time_option(time_limit)
    if kind == "sidecar" and (limit_s is None or limit_s > TIME_MIN_S):
        argv.append(f"--time-min={TIME_MIN_S // 60}")
    return argv


def cut_time(time_limit: str, partition: str | None, partitions: Sequence[Partition]) -> str:
    """The time limit, cut to that of the partition where the job will run, or to the shortest of several."""
    limits = [p.time_limit_s for p in named_partitions(partition, partitions) if p.time_limit_s is not None]
    limit_s = time_option(time_limit)
    if not limits or (limit_s is not None and limit_s <= min(limits)):
        return time_limit
    return str(max(int(min(limits) // 60), 1))


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
