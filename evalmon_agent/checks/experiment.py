"""Checks an experiment: who may write there, its file system and lock, the clock, its files and notifications."""

from __future__ import annotations

import os
import stat
import time
from importlib.util import find_spec

from evalmon_agent.checks.finding import Finding, ok, problem, warning
from evalmon_agent.errors import LockUnavailableError, UnsafeDirectoryError, UsageError
from evalmon_agent.experiment import reports
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import Choice, mount_at, recorded, stranded_holder, would_choose
from evalmon_agent.experiment.settings_file import readable_urls, refuse_world_writable
from evalmon_agent.files.lock import marker_works
from evalmon_agent.files.permissions import exposure, user_name
from evalmon_agent.files.proc import Mount, is_of_one_machine, same_flock
from evalmon_agent.files.replace import OLD_AFTER_S
from evalmon_agent.notify.deliver import INSTALL, NOT_INSTALLED, Journal, targets_of, what_to_do
from evalmon_agent.settings import Settings
from evalmon_agent.words.sizes import counted

_AGREE_S = 5.0
_LOCK = "lock"
_NOTIFICATIONS = "notifications"
# Lost updates under a lock that excluded, findings by scripts/verify-filesystem [ran].
_REMEMBERS_SIZES = frozenset({"fuse.sshfs"})


def check_directory(experiment: Experiment, settings: Settings) -> list[Finding]:
    """Checks owner and mode of EXP/evalmon, whether it can be written to, and who else may write above it."""
    return [_own_directory(experiment), *(_exposure(experiment, settings) if experiment.is_ours else ())]


def _exposure(experiment: Experiment, settings: Settings) -> list[Finding]:
    try:
        refuse_world_writable(experiment, settings)
    except UnsafeDirectoryError as error:
        line, _, advice = str(error).partition("; ")
        return [problem("directory", line, advice, exit_status=error.exit_status)]
    exposed = exposure(experiment.root)
    return [] if exposed is None else [warning("directory", *exposed)]


def _own_directory(experiment: Experiment) -> Finding:
    directory = experiment.directory
    if not experiment.is_ours:
        whose = user_name(experiment.owner or 0)
        readable = os.access(directory, os.R_OK | os.X_OK)
        may = "you can read it: evalmon status" if readable else "you cannot read it"
        return warning(
            "directory", f"{directory} belongs to {whose}; {may}", "to submit, use an experiment of your own"
        )
    try:
        experiment.check()
    except UsageError as error:
        line, _, advice = str(error).partition("; ")
        return problem("directory", line, advice, exit_status=error.exit_status)
    if not os.path.lexists(directory):
        return ok("directory", f"{directory} does not exist yet and can be created")
    mode = stat.S_IMODE(os.lstat(directory).st_mode)
    return ok("directory", f"{directory} can be written by you only (mode {mode:04o})")


def check_file_system(experiment: Experiment) -> list[Finding]:
    """Checks the mount's type and options, the lock's kind, and whether a process on another host holds it."""
    place, probe = probe_place(experiment)
    mount = mount_at(place)
    findings = [_mount(place, mount)]
    if not os.access(probe, os.W_OK | os.X_OK):
        return findings
    made = recorded(experiment) if os.path.isdir(experiment.directory) else None
    findings += (
        _recorded_lock(experiment, made, mount)
        if made is not None
        else _lock_to_choose(would_choose(place, probe=probe), probe)
    )
    holder = stranded_holder(experiment)
    if holder is not None:
        findings.append(
            warning(
                _LOCK,
                f"held just now by process {holder.pid} on {holder.host}",
                f"if it stays, and that process is gone for good, remove {experiment.lock}",
            )
        )
    return findings


def probe_place(experiment: Experiment) -> tuple[str, str]:
    """Where a temporary file may be made: EXP/evalmon if it is this user's, else EXP. Its path, and the one for I/O."""
    has_own = experiment.is_ours and os.path.isdir(experiment.directory) and not os.path.islink(experiment.directory)
    return (experiment.directory, experiment.by_descriptor) if has_own else (experiment.root, experiment.root)


def _mount(place: str, mount: Mount | None) -> Finding:
    if mount is None:
        return warning("file system", f"unknown how {place} is mounted", "is /proc there?")
    line = f"{mount.fstype} mounted at {mount.point} ({','.join(sorted(mount.options))})"
    if is_of_one_machine(mount):
        return warning(
            "file system",
            f"{line}: only this machine can see it",
            "compute nodes must see the same directory: use a shared file system, unless this one is exported to them",
        )
    if mount.fstype in _REMEMBERS_SIZES:
        advice = (
            "files that change elsewhere are read incompletely for a while: keep the experiment on another file system"
        )
        return warning("file system", f"{line}: it caches files' sizes", advice)
    return ok("file system", line)


def _recorded_lock(experiment: Experiment, made: Choice, mount: Mount | None) -> list[Finding]:
    line = f"{made.kind}, chosen on {made.host}" + (f": {made.why}" if made.why else "")
    if made.kind == "flock" and not same_flock(made.filesystem, mount):
        advice = f"run evalmon on {made.host}, or once no monitor runs remove {experiment.lock_choice} and begin here"
        line += "; but this host's flock is not seen there"
        return [problem(_LOCK, line, advice, exit_status=LockUnavailableError.exit_status)]
    return [ok(_LOCK, line)]


def _lock_to_choose(choice: Choice, probe: str) -> list[Finding]:
    line = f"{choice.kind} would be used: {choice.why}"
    if choice.kind == "flock":
        return [ok(_LOCK, line)]
    try:
        why = "" if marker_works(probe) else "there are no hard links"
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        advice = "use another file system for the experiment"
        line += f"; but its marker cannot be made: {why}"
        return [problem(_LOCK, line, advice, exit_status=LockUnavailableError.exit_status)]
    return [ok(_LOCK, line)]


def check_clock(experiment: Experiment) -> list[Finding]:
    """Compares a fresh file's time with this host's clock. Only here are times of two hosts subtracted."""
    _, place = probe_place(experiment)
    if not os.access(place, os.W_OK | os.X_OK):
        return []
    apart_s = _apart_s(place)
    line = f"the file server's is {abs(apart_s):.1f} s {'ahead of' if apart_s > 0 else 'behind'} this host's"
    advice = "correct this host's clock (NTP); times of files and in the log are wrong by that much"
    if abs(apart_s) >= OLD_AFTER_S:
        return [problem("clock", line, f"{advice}, and new files may be taken for old ones")]
    if abs(apart_s) >= _AGREE_S:
        return [warning("clock", line, advice)]
    return [ok("clock", f"the file server's and this host's agree within {_AGREE_S:.0f} s")]


def _apart_s(place: str) -> float:
    path = os.path.join(place, f".evalmon-doctor.{os.urandom(8).hex()}.tmp")
    before = time.time()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, b"?")
        os.fsync(descriptor)
        written = os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        os.unlink(path)
    # A slow write does not count as a wrong clock.
    return min(written - before, 0.0) or max(written - time.time(), 0.0)


def check_records(experiment: Experiment) -> list[Finding]:
    """Checks for torn lines, unusable reports and states set aside. UnreadableError (78): another schema."""
    if not os.path.isdir(experiment.directory) or not experiment.is_ours or not experiment.is_monitored():
        return []
    state_file.load(experiment)
    torn = experiment.ledger.torn_lines()
    unread = reports.unread(experiment.jobs)
    aside = [name for name in os.listdir(experiment.by_descriptor) if name.startswith("state.json.corrupt-")]
    findings = []
    if torn:
        line = f"{counted(torn, 'line')} of {experiment.registry} cannot be read"
        findings.append(warning("records", line, "a kill during a write leaves such a line; nothing to do"))
    if unread:
        line = f"{len(unread)} in {experiment.jobs} cannot be used: {', '.join(unread[:3])}"
        findings.append(warning("records", line, "they are ignored; Slurm's records decide about those jobs"))
    if aside:
        line = f"a state was set aside {counted(len(aside), 'time')}: {', '.join(sorted(aside)[:3])}"
        findings.append(
            warning("records", line, "it was rebuilt; remove those files, and if it happens again, check the disk")
        )
    return findings or [ok("records", "all can be read")]


def check_notifications(experiment: Experiment, settings: Settings) -> list[Finding]:
    """No findings if no notifications are set up."""
    targets = targets_of(settings)
    if not targets:
        return []
    findings = []
    if settings.notify and find_spec("apprise") is None:
        findings.append(warning(_NOTIFICATIONS, f"{NOT_INSTALLED}; the URLs of notify get nothing", f"run: {INSTALL}"))
    readable = readable_urls(experiment.settings, settings)
    if readable is not None:
        findings.append(warning(_NOTIFICATIONS, *readable))
    if experiment.is_ours:
        journal = Journal(experiment).read()
        for target in targets:
            why, number = journal.failing([target]).get(target.label), len(journal.waiting(target))
            if why is not None and number:
                line = f"{target.label}: {counted(number, 'notification')} not sent yet: {why}"
                findings.append(warning(_NOTIFICATIONS, line, what_to_do(why)))
    names = ", ".join(target.label for target in targets)
    return findings or [ok(_NOTIFICATIONS, f"{names}; to send a test: evalmon notify {experiment.root} --test")]
