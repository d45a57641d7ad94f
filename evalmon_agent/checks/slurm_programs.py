"""Which of Slurm's programs are here, and of which version?"""

from __future__ import annotations

from collections.abc import Mapping

from evalmon_agent.checks.finding import Finding, ok, problem, warning
from evalmon_agent.slurm.client import Slurm

OLDEST = (18, 8)
"""The first whose sacct knows every field that we ask for."""

_NEEDED: Mapping[str, str] = {"sbatch": "submits", "squeue": "says which jobs wait and run"}
_USEFUL: Mapping[str, str] = {
    "sacct": "without it a job's end is what squeue and the job itself say",
    "scancel": "without it `evalmon stop` cannot end the monitoring",
    "sinfo": "without it the times of our own jobs are not cut to a partition's limit",
    "scontrol": "without it the completion mail's subject does not carry the verdict",
}


def check(slurm: Slurm) -> list[Finding]:
    """Those that are needed, those that help, and Slurm's version."""
    found = []
    for name, what in _NEEDED.items():
        if not slurm.has(name):
            advice = "run evalmon on a login node, or load the slurm module"
            found.append(problem("programs", f"{name}, which {what}, is not on PATH", advice, exit_status=69))
    found += [
        warning("programs", f"{name} is not on PATH: {what}", "have it put on PATH")
        for name, what in _USEFUL.items()
        if not slurm.has(name)
    ]
    if not found:
        found = [ok("programs", f"{' '.join((*_NEEDED, *_USEFUL))} are on PATH")]
    return [*found, *_version(slurm)]


def _version(slurm: Slurm) -> list[Finding]:
    if not slurm.has("sbatch"):
        return []
    version = slurm.version()
    if version is None:
        return [warning("version", "sbatch does not say which Slurm this is", "is that sbatch Slurm's own?")]
    words = f"Slurm {version[0]}.{version[1]:02}"
    if version < OLDEST:
        advice = f"evalmon knows Slurm from {OLDEST[0]}.{OLDEST[1]:02} on"
        return [warning("version", f"{words}: sacct may refuse our questions", advice)]
    return [ok("version", words)]
