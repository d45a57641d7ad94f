"""Renders the batch scripts of the monitor jobs (sidecar and completion job), and sbatch's options for them."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from evalmon_agent.settings import FAST_POLLING, MonitorJobSettings
from evalmon_agent.slurm.sinfo import Partition, named_partitions
from evalmon_agent.words.durations import time_option

MonitorJobKind = Literal["sidecar", "completion"]
_COMMAND: Mapping[MonitorJobKind, str] = {"sidecar": "sidecar", "completion": "complete"}

TIME_MIN_S = 600
"""The shortest limit of a sidecar: Slurm may cut its limit to this, to start it in a gap before pending evals."""
_PLACE_KEYS = ("SBATCH_PARTITION", "SBATCH_ACCOUNT", "SBATCH_QOS")
_LINE_KEYS = ("PATH", "SLURM_CONF", "SLURM_CLUSTERS", FAST_POLLING, "TZ", *_PLACE_KEYS)

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


@dataclass(frozen=True, slots=True)
class Placement:
    """Partition, account and qos of the evals; the monitor jobs get the same unless the settings differ."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None


def placement_of(options: Sequence[Mapping[str, str]], environ: Mapping[str, str]) -> Placement:
    """The most common partition, account and qos of the scripts; sbatch's variables override `#SBATCH`."""
    return Placement(*(_commonest(key, options, environ) for key in ("partition", "account", "qos")))


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
    exports = [f"export {key}={shlex.quote(environ[key])}" for key in _LINE_KEYS if environ.get(key)]
    start = shlex.quote(f'{{"id":"{experiment_id}"')
    output = _OPEN_OUTPUT.format(
        directory=shlex.quote(os.path.join(experiment, "evalmon")),
        is_this_one="" if experiment_id is None else _IS_THIS_ONE.format(start=start),
        kind=kind,
        umask="027" if group_readable else "077",
    )
    return "\n".join(["#!/bin/sh", *exports, f"{output}exec {shlex.join(words)}", ""])


def options(
    job: MonitorJobSettings, place: Placement, *, kind: str, time_limit: str, afterany: Sequence[str] = ()
) -> list[str]:
    """sbatch's options for a monitor job, without the script's path.

    It never gets the evals' gres.
    """
    chosen = {
        "partition": job.partition or place.partition,
        "account": job.account or place.account,
        "qos": job.qos or place.qos,
    }
    argv = [
        f"--job-name=evalmon-{kind}",
        "--output=/dev/null",
        f"--time={time_limit}",
        f"--mem={job.mem}",
        "--nodes=1",
        "--ntasks=1",
        "--requeue",
        *(f"--{key}={value}" for key, value in chosen.items() if value),
    ]
    if afterany:
        argv.append("--dependency=afterany:" + ":".join(afterany))
    return [*argv, *job.extra]


def cut_time(time_limit: str, partition: str | None, partitions: Sequence[Partition]) -> str:
    """The time limit, cut to that of the partition where the job will run, or to the shortest of several."""
    limits = [p.time_limit_s for p in named_partitions(partition, partitions) if p.time_limit_s is not None]
    limit_s = time_option(time_limit)
    if not limits or (limit_s is not None and limit_s <= min(limits)):
        return time_limit
    return str(max(int(min(limits) // 60), 1))


def time_min(time_limit: str) -> list[str]:
    """The option for a sidecar, which submits a successor before any limit and so may start with a shorter one."""
    limit_s = time_option(time_limit)
    return [f"--time-min={TIME_MIN_S // 60}"] if limit_s is None or limit_s > TIME_MIN_S else []


def _commonest(key: str, options_of_evals: Sequence[Mapping[str, str]], environ: Mapping[str, str]) -> str | None:
    from_environment = environ.get(f"SBATCH_{key.upper()}")
    if from_environment:
        return from_environment
    values = Counter(options[key] for options in options_of_evals if options.get(key))
    return values.most_common(1)[0][0] if values else None
