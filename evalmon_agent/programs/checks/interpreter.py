"""Can compute nodes start our program: is its interpreter where they see it?"""

from __future__ import annotations

import os
import sys

import evalmon_agent
from evalmon_agent.files.mounts import Mount, is_of_one_machine, is_shared
from evalmon_agent.programs.checks.finding import Finding, ok, warning
from evalmon_agent.store.lock import mount_at

_CHECK = "interpreter"


def check() -> list[Finding]:
    """As well as a mount tells: a local disk may have the same at the same path on every node."""
    places = {sys.executable: "the interpreter", os.path.dirname(evalmon_agent.__file__): "the package"}
    mounts = {path: mount_at(os.path.realpath(path)) for path in places}
    if len({mount.point if mount else None for mount in mounts.values()}) == 1:
        return [_finding(f"{places[sys.executable]} {sys.executable}", mounts[sys.executable])]
    return [_finding(f"{what} {path}", mounts[path]) for path, what in places.items()]


def _finding(what: str, mount: Mount | None) -> Finding:
    if mount is None:
        return ok(_CHECK, f"{what}: nobody can tell how that is mounted, nor whether nodes see it")
    if is_of_one_machine(mount):
        line = f"{what} is on this machine's own disk ({mount.fstype} at {mount.point})"
        advice = "install evalmon where compute nodes see it, or at the same path on each; else evals run unmonitored"
        return warning(_CHECK, line, advice)
    if is_shared(mount):
        return ok(_CHECK, f"{what} is on a shared file system ({mount.fstype} at {mount.point})")
    return ok(_CHECK, f"{what} is on {mount.fstype} at {mount.point}; whether nodes see it is not known")
