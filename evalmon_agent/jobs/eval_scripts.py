"""Finds and reads the scripts of evals, and writes the launcher that sbatch gets for each."""

from __future__ import annotations

import glob
import os
import re
import stat
import sys
from collections.abc import Sequence

import evalmon_agent
from evalmon_agent.errors import UsageError
from evalmon_agent.experiment import scripts
from evalmon_agent.experiment.experiment import Experiment, is_utf8
from evalmon_agent.files.permissions import is_trusted, user_name, writers
from evalmon_agent.files.trusted import read_at
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.submission.launcher import render
from evalmon_agent.submission.plan import MAX_SCRIPT_BYTES, Prepared, Script, read_script

_ADVICE = "to submit it anyway, name it: evalmon submit EXP SCRIPT..."
_DIGITS = re.compile(r"(\d+)")


def find(experiment: Experiment, settings: Settings, named: Sequence[str]) -> list[Script]:
    """The scripts, read and checked; UsageError with one line for each that cannot be used.

    Where others may write to the experiment they could leave a script there, which would run as us: such a one is
    submitted only if it is named.
    """
    problems: list[str] = []
    paths = dict[str, bool]()
    for name in named:
        matches = _named(experiment, name)
        paths |= matches
        if not matches:
            problems.append(f"{name}: no such script, neither in {os.getcwd()} nor in {experiment.root}")
    if not named:
        paths = dict.fromkeys(_matching(experiment, settings.scripts, experiment.root), False)
    if not paths and not problems:
        raise UsageError(
            f"{experiment.root}: no eval scripts; {' and '.join(settings.scripts)} match nothing there: name "
            f"them, or set `scripts:` in {experiment.settings}"
        )
    scripts = []
    for path, is_named in paths.items():
        try:
            if not is_utf8(path):
                raise UsageError(f"{path}: a path that is not UTF-8 cannot be recorded; rename it")
            scripts.append(read(experiment, path, is_named=is_named))
        except UsageError as error:
            problems += error.lines
    if problems:
        raise UsageError(*problems)
    return scripts


def read(experiment: Experiment, path: str, *, is_named: bool = False) -> Script:
    """One script; UsageError also if the user did not name it now, and somebody else could have left it there."""
    if not is_named:
        _refuse_foreign_links(experiment, path)
    return read_script(path, _content(path, is_named=is_named))


def change_since(path: str, submitted: bytes) -> str:
    """A note that the script has changed since its submission, and who could change it; "" if not, or if it is gone."""
    if not os.path.lexists(path):
        return ""
    try:
        if _content(path, is_named=True) == submitted:
            return ""
        status = os.stat(path)
    except (OSError, UsageError):
        return "runs as it was submitted (its script cannot be read now)"
    owner = [] if status.st_uid == os.geteuid() else [f"belongs to {user_name(status.st_uid)}"]
    who = " and ".join([*owner, *filter(None, [writers(path, status)])])
    return f"runs as it was submitted, its script has changed since{f' ({who})' if who else ''}: --changed takes it"


def _named(experiment: Experiment, name: str) -> dict[str, bool]:
    """The scripts that a word means, looked for here, or else in the experiment; and whether it names them itself.

    A pattern does not: somebody else could have left a script there that it fits.
    """
    for directory in (os.getcwd(), experiment.root):
        path = os.path.normpath(os.path.join(directory, name))
        if os.path.lexists(path) or "\0" in name:
            return {path: True}
        matches = _matching(experiment, [name], directory)
        if matches:
            return dict.fromkeys(matches, False)
    return {}


def _matching(experiment: Experiment, patterns: Sequence[str], directory: str) -> list[str]:
    matches = {
        os.path.normpath(os.path.join(directory, match))
        for pattern in patterns
        for match in glob.glob(pattern, root_dir=directory, recursive=True)
    }
    own_files = experiment.directory + os.sep
    return sorted((path for path in matches if not path.startswith(own_files)), key=_naturally)


def _naturally(path: str) -> list[tuple[int, str]]:
    """A sort key by which epoch2 comes before epoch10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(path)]


def _content(path: str, *, is_named: bool) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:
        raise UsageError(f"{path!r}: no path; name an sbatch script") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path}: not a file; name an sbatch script")
        if not is_named:
            _refuse_foreign(path, status)
        content = read_at(fd, 0, MAX_SCRIPT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    finally:
        os.close(fd)
    if len(content) > MAX_SCRIPT_BYTES:
        raise UsageError(f"{path}: larger than {MAX_SCRIPT_BYTES // 1024**2} MiB; that is not an sbatch script")
    return content


def _refuse_foreign(path: str, status: os.stat_result) -> None:
    if not is_trusted(status.st_uid):
        raise UsageError(f"{path}: belongs to {user_name(status.st_uid)} and would run as you; {_ADVICE}")
    if status.st_mode & stat.S_IWOTH:
        raise UsageError(f"{path}: {writers(path, status)}; {_ADVICE}")


def _refuse_foreign_links(experiment: Experiment, path: str) -> None:
    """Refuse another user's link on the way, which could lead to any script of this user."""
    place = experiment.root
    for part in os.path.relpath(path, experiment.root).split(os.sep):
        place = os.path.join(place, part)
        try:
            status = os.lstat(place)
        except OSError:
            return  # opening it will say why
        if stat.S_ISLNK(status.st_mode) and not is_trusted(status.st_uid):
            raise UsageError(f"{path}: {place} is a link of {user_name(status.st_uid)}; {_ADVICE}")


def write_launcher(session: Session, new: Prepared) -> None:
    """Write what sbatch is to get."""
    parts = scripts.launcher_parts(session.experiment, new.script.path, new.script.content)
    scripts.write(session.experiment, new.submission.token, parts, launcher_for(session, new))


def launcher_for(session: Session, new: Prepared) -> bytes:
    """The launcher's text."""
    return render(
        new,
        monitor_dir=session.experiment.directory,
        experiment_id=session.experiment.id or "",
        interpreter=sys.executable,
        package_parent=os.path.dirname(os.path.dirname(evalmon_agent.__file__)),
        sample_interval_s=session.settings.sample_interval,
    )
