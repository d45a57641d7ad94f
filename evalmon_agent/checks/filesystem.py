"""Checks on which file system the experiment is, and by which lock it is guarded there."""

from __future__ import annotations

import os

from evalmon_agent.checks.finding import Finding, ok, problem, warning
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.lock import Choice, mount_at, recorded, stranded_holder, would_choose
from evalmon_agent.files.marker import marker_works
from evalmon_agent.files.mounts import Mount, is_of_one_machine, same_flock

_LOCK = "lock"
# Lost updates under a lock that excluded, found by scripts/verify-filesystem [ran].
_REMEMBERS_SIZES = frozenset({"fuse.sshfs"})


def check(experiment: Experiment) -> list[Finding]:
    """Type and options, the lock's kind and why, and whether somebody lost it."""
    place, probe = probe_place(experiment)
    mount = mount_at(place)
    found = [_mount(place, mount)]
    if not os.access(probe, os.W_OK | os.X_OK):
        return found
    made = recorded(experiment) if os.path.isdir(experiment.directory) else None
    found += (
        _recorded(experiment, made, mount) if made is not None else _chosen(would_choose(place, probe=probe), probe)
    )
    holder = stranded_holder(experiment)
    if holder is not None:
        found.append(
            warning(
                _LOCK,
                f"held just now by process {holder.pid} on {holder.host}",
                f"if it stays, and that process is gone for good, remove {experiment.lock}",
            )
        )
    return found


def probe_place(experiment: Experiment) -> tuple[str, str]:
    """Where something may be tried: our own directory, else EXP. Its path, and the one for I/O."""
    has_own = experiment.is_ours and os.path.isdir(experiment.directory) and not os.path.islink(experiment.directory)
    return (experiment.directory, experiment.by_descriptor) if has_own else (experiment.root, experiment.root)


def _mount(place: str, mount: Mount | None) -> Finding:
    if mount is None:
        return warning("file system", f"nobody can tell how {place} is mounted", "is /proc there?")
    line = f"{mount.fstype} mounted at {mount.point} ({','.join(sorted(mount.options))})"
    if is_of_one_machine(mount):
        return warning(
            "file system",
            f"{line}: it is of this machine",
            "compute nodes must see the same directory: use a shared file system, unless this one is exported to them",
        )
    if mount.fstype in _REMEMBERS_SIZES:
        advice = (
            "files that change elsewhere are read cut short for a while: keep the experiment on another file system"
        )
        return warning("file system", f"{line}: it remembers files' sizes", advice)
    return ok("file system", line)


def _recorded(experiment: Experiment, made: Choice, mount: Mount | None) -> list[Finding]:
    line = f"{made.kind}, chosen on {made.host}" + (f": {made.why}" if made.why else "")
    if made.kind == "flock" and not same_flock(made.filesystem, mount):
        advice = f"run evalmon on {made.host}, or once no monitor runs remove {experiment.lock_choice} and begin here"
        return [problem(_LOCK, f"{line}; but this host's flock is not seen there", advice, exit_status=75)]
    return [ok(_LOCK, line)]


def _chosen(choice: Choice, probe: str) -> list[Finding]:
    line = f"{choice.kind} would be used: {choice.why}"
    if choice.kind == "flock":
        return [ok(_LOCK, line)]
    try:
        why = "" if marker_works(probe) else "there are no hard links"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        advice = "use another file system for the experiment"
        return [problem(_LOCK, f"{line}; but its marker cannot be made: {why}", advice, exit_status=75)]
    return [ok(_LOCK, line)]
