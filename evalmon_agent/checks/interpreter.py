"""Checks whether jobs can start evalmon: whether its interpreter finds it, where compute nodes see both."""

from __future__ import annotations

import os
import sys

import evalmon_agent
from evalmon_agent.checks.finding import Finding, ok, warning
from evalmon_agent.experiment.experiment_lock import mount_at
from evalmon_agent.files.mounts import Mount, is_of_one_machine, is_shared
from evalmon_agent.slurm.commands import run

_CHECK = "interpreter"
_START_TIMEOUT_S = 20.0
_ALL_THAT_JOBS_IMPORT = "import evalmon_agent.commands.complete, evalmon_agent.commands.sidecar, psutil, yaml"


def check_interpreter() -> list[Finding]:
    """As well as a mount tells: a local disk may have the same at the same path on every node."""
    return [*_finds_us(), *_places()]


def _finds_us() -> list[Finding]:
    """Called as evalmon's jobs call it."""
    words = [sys.executable, "-E", "-P", "-c", _ALL_THAT_JOBS_IMPORT]
    if run(words, timeout_s=_START_TIMEOUT_S, env=os.environ, cwd="/").ok:
        return []
    line = f"in jobs {sys.executable} does not find evalmon and all that it needs: PYTHONPATH is ignored there"
    advice = "install evalmon into an environment of its own (python3 -m venv); otherwise the monitor jobs do not start"
    return [warning(_CHECK, line, advice)]


def _places() -> list[Finding]:
    places = {sys.executable: "the interpreter", os.path.dirname(evalmon_agent.__file__): "the package"}
    mounts = {path: mount_at(os.path.realpath(path)) for path in places}
    if len({mount.point if mount else None for mount in mounts.values()}) == 1:
        return [_finding(f"{places[sys.executable]} {sys.executable}", mounts[sys.executable])]
    return [_finding(f"{what} {path}", mounts[path]) for path, what in places.items()]


def _finding(what: str, mount: Mount | None) -> Finding:
    if mount is None:
        return ok(_CHECK, f"{what}: how that is mounted, and whether nodes see it, is unknown")
    if is_of_one_machine(mount):
        line = f"{what} is on this machine's own disk ({mount.fstype} at {mount.point})"
        advice = (
            "install evalmon where compute nodes see it, or at the same path on each; otherwise evals run unmonitored"
        )
        return warning(_CHECK, line, advice)
    if is_shared(mount):
        return ok(_CHECK, f"{what} is on a shared file system ({mount.fstype} at {mount.point})")
    return ok(_CHECK, f"{what} is on {mount.fstype} at {mount.point}; whether nodes see it is not known")
