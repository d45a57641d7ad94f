"""Checks Slurm (programs, version, answers, partitions), and whether its jobs can start evalmon."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence

import evalmon_agent
from evalmon_agent.checks.finding import Finding, ok, problem, warning
from evalmon_agent.errors import SlurmUnavailableError
from evalmon_agent.experiment.experiment_lock import mount_at
from evalmon_agent.files.proc import Mount, is_of_one_machine, is_shared
from evalmon_agent.jobs.monitor_jobs import cut_time
from evalmon_agent.settings import MonitorJobSettings, Settings
from evalmon_agent.slurm import seff
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.commands import run
from evalmon_agent.slurm.failures import Failure, FailureKind
from evalmon_agent.slurm.sinfo import Partition, is_exclusive
from evalmon_agent.words.durations import clock
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.sizes import counted

OLDEST = (18, 8)
"""The first release whose sacct knows every field that evalmon asks for."""

_NEEDED: Mapping[str, str] = {"sbatch": "submits", "squeue": "says which jobs wait and run"}
_USEFUL: Mapping[str, str] = {
    "sacct": "without it a job's end is known from squeue and the job itself only",
    "scancel": "without it `evalmon stop` cannot end the monitoring",
    "sinfo": "without it the monitor jobs' time limits are not cut to a partition's limit",
    "scontrol": "without it the subject of the completion mail does not have the verdict",
}
# Any job will do: an answer without rows is one, too.
_SOME_JOB = JobId("1")
_WITHOUT_ACCOUNTING = "a job's end is then what squeue and the job itself say, and figures are each job's own"
_SHORT_MEMORY_S = 120.0

_INTERPRETER = "interpreter"
_START_TIMEOUT_S = 20.0
_ALL_THAT_JOBS_IMPORT = (
    "import evalmon_agent.commands.complete, evalmon_agent.commands.sidecar, psutil, yaml, zstandard"
)


def check_programs(slurm: Slurm) -> list[Finding]:
    """Checks for the programs that are needed, those that help, and Slurm's version."""
    findings = []
    for name, what in _NEEDED.items():
        if not slurm.has(name):
            advice = "run evalmon on a login node, or load the slurm module"
            line = f"{name}, which {what}, is not on PATH"
            findings.append(problem("programs", line, advice, exit_status=SlurmUnavailableError.exit_status))
    findings += [
        warning("programs", f"{name} is not on PATH: {what}", "put it on PATH")
        for name, what in _USEFUL.items()
        if not slurm.has(name)
    ]
    if not findings:
        findings = [ok("programs", f"{' '.join((*_NEEDED, *_USEFUL))} are on PATH")]
    return [*findings, *_version(slurm)]


def _version(slurm: Slurm) -> list[Finding]:
    if not slurm.has("sbatch"):
        return []
    version = slurm.version()
    if version is None:
        return [warning("version", "sbatch does not say which Slurm this is", "check that this sbatch is Slurm's own")]
    words = f"Slurm {version[0]}.{version[1]:02}"
    if version < OLDEST:
        advice = f"evalmon knows Slurm from {OLDEST[0]}.{OLDEST[1]:02} on"
        return [warning("version", f"{words}: sacct may refuse evalmon's queries", advice)]
    return [ok("version", words)]


def check_answers(slurm: Slurm, settings: Settings) -> list[Finding]:
    """One finding or more for each of them that is here."""
    findings = _controller(slurm) if slurm.has("squeue") else []
    if any(finding.level == "problem" for finding in findings):
        return findings
    configuration = slurm.configuration() if slurm.has("scontrol") else {}
    settings_of_slurm: Mapping[str, str] = {} if isinstance(configuration, Failure) else configuration
    findings += _accounting(slurm, settings_of_slurm) if slurm.has("sacct") else []
    findings += _seff(slurm)
    return findings + (_partitions(slurm, settings) if slurm.has("sinfo") else [])


def _controller(slurm: Slurm) -> list[Finding]:
    began = time.monotonic()
    answer = slurm.queue()
    took_s = time.monotonic() - began
    if isinstance(answer, Failure):
        advice = "try again later; running jobs are not affected"
        line = f"squeue gives no answer: {answer.line}"
        return [problem("controller", line, advice, exit_status=SlurmUnavailableError.exit_status)]
    return [ok("controller", f"answers in {took_s:.1f} s; {counted(len(answer.rows), 'job')} of yours")]


def _accounting(slurm: Slurm, configuration: Mapping[str, str]) -> list[Finding]:
    storage = configuration.get("AccountingStorageType", "")
    answer = slurm.account([_SOME_JOB])
    if (
        isinstance(answer, Failure)
        and answer.kind is not FailureKind.ACCOUNTING_DISABLED
        and not storage.endswith("/none")
    ):
        line = f"sacct gives no answer: {answer.line}"
        return [
            warning(
                "accounting", line, "try again later; until then evalmon needs a second witness for the end of a job"
            )
        ]
    if isinstance(answer, Failure) or storage.endswith("/none"):
        findings = [warning("accounting", "off", _WITHOUT_ACCOUNTING)]
        age = configuration.get("MinJobAge", "").partition(" ")[0]
        if age.isdecimal() and float(age) < _SHORT_MEMORY_S:
            line = f"ended jobs leave squeue after {age} s (MinJobAge)"
            findings.append(warning("accounting", line, "ends may be missed between two polls; ask for 300 s"))
        return findings
    findings = [ok("accounting", f"on{f' ({storage})' if storage else ''}")]
    if configuration.get("JobAcctGatherType", "").endswith("/none"):
        findings.append(warning("accounting", "CPU and memory of jobs are not gathered", "those figures stay unknown"))
    return findings


def _seff(slurm: Slurm) -> list[Finding]:
    if not slurm.has("seff"):
        return [ok("seff", "not installed; the figures come from sacct")]
    done = slurm.efficiency(_SOME_JOB)
    if done.returncode is None or seff.is_broken(done.returncode, done.stdout, done.stderr):
        message = (done.problem or (done.stderr or done.stdout).strip()).partition("\n")[0]
        return [warning("seff", f"cannot run: {message}", "the figures come from sacct; tell your cluster's support")]
    return [ok("seff", "works")]


def _partitions(slurm: Slurm, settings: Settings) -> list[Finding]:
    partitions = slurm.partitions()
    if isinstance(partitions, Failure):
        line = f"sinfo gives no answer: {partitions.line}"
        advice = "set sidecar.time and completion.time to what your partition allows: they cannot be cut to its limit"
        return [warning("partitions", line, advice)]
    listed = ", ".join(map(_described, partitions)) or "none that you may see"
    return [ok("partitions", listed), *_monitor_jobs(partitions, settings)]


def _described(partition: Partition) -> str:
    limit = "no limit" if partition.time_limit_s is None else clock(partition.time_limit_s)
    more = " (default)" * partition.is_default + ", whole nodes" * partition.exclusive
    return f"{partition.name}{more} {limit}"


def _monitor_jobs(partitions: Sequence[Partition], settings: Settings) -> list[Finding]:
    findings = []
    names = {partition.name for partition in partitions}
    jobs: Mapping[str, MonitorJobSettings] = {"sidecar": settings.sidecar, "completion": settings.completion}
    for kind, job in jobs.items():
        unknown = [name for name in (job.partition or "").split(",") if name and name not in names]
        if unknown:
            advice = f"set {kind}.partition to one of: {', '.join(sorted(names))}"
            findings.append(problem(f"{kind}.partition", f"there is no partition {', '.join(unknown)}", advice))
        elif cut_time(job.time, job.partition, partitions) != job.time:
            cut = cut_time(job.time, job.partition, partitions)
            findings.append(ok(f"{kind}.time", f"{job.time} is cut to the partition's limit, {cut} minutes"))
    if is_exclusive(settings.sidecar.partition, partitions):
        line = "it would take a whole node in its partition, so none is submitted"
        findings.append(
            warning("sidecar.partition", line, "set sidecar.partition to one that shares nodes, for a live view")
        )
    return findings


def check_interpreter() -> list[Finding]:
    """Checks whether jobs find evalmon, as well as a mount tells: a local disk may have the same on every node."""
    return [*_finds_us(), *_places()]


def _finds_us() -> list[Finding]:
    """Called as evalmon's jobs call it."""
    words = [sys.executable, "-E", "-P", "-c", _ALL_THAT_JOBS_IMPORT]
    if run(words, timeout_s=_START_TIMEOUT_S, env=os.environ, cwd="/").ok:
        return []
    line = f"in jobs {sys.executable} does not find evalmon and all that it needs: PYTHONPATH is ignored there"
    advice = "install evalmon into an environment of its own (python3 -m venv); otherwise the monitor jobs do not start"
    return [warning(_INTERPRETER, line, advice)]


def _places() -> list[Finding]:
    places = {sys.executable: "the interpreter", os.path.dirname(evalmon_agent.__file__): "the package"}
    mounts = {path: mount_at(os.path.realpath(path)) for path in places}
    if len({mount.point if mount else None for mount in mounts.values()}) == 1:
        return [_place(f"{places[sys.executable]} {sys.executable}", mounts[sys.executable])]
    return [_place(f"{what} {path}", mounts[path]) for path, what in places.items()]


def _place(what: str, mount: Mount | None) -> Finding:
    if mount is None:
        return ok(_INTERPRETER, f"{what}: how that is mounted, and whether nodes see it, is unknown")
    if is_of_one_machine(mount):
        line = f"{what} is on this machine's own disk ({mount.fstype} at {mount.point})"
        advice = (
            "install evalmon where compute nodes see it, or at the same path on each; otherwise evals run unmonitored"
        )
        return warning(_INTERPRETER, line, advice)
    if is_shared(mount):
        return ok(_INTERPRETER, f"{what} is on a shared file system ({mount.fstype} at {mount.point})")
    return ok(_INTERPRETER, f"{what} is on {mount.fstype} at {mount.point}; whether nodes see it is not known")
