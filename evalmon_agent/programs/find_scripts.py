"""Which scripts are meant: those named, or all that the settings' globs match below the experiment."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Sequence

from evalmon_agent.errors import UsageError
from evalmon_agent.files.regular import read_at
from evalmon_agent.settings import Settings
from evalmon_agent.store.experiment import Experiment, is_utf8
from evalmon_agent.submission.plan import Script, read_script

MAX_SCRIPT_BYTES = 16 * 1024 * 1024
_DIGITS = re.compile(r"(\d+)")


def find(experiment: Experiment, settings: Settings, named: Sequence[str]) -> list[Script]:
    """The scripts, read and checked; UsageError with one line for each that cannot be used."""
    paths = [_named(experiment, name) for name in named] if named else _matching(experiment, settings)
    if not paths:
        raise UsageError(
            f"{experiment.root}: no eval scripts; {' and '.join(settings.scripts)} match nothing there: name "
            f"them, or set `scripts:` in {experiment.settings}"
        )
    scripts, problems = [], []
    for path in dict.fromkeys(paths):
        try:
            if not is_utf8(path):
                raise UsageError(f"{path}: a path that is not UTF-8 cannot be kept on record; rename it")
            scripts.append(read(path))
        except UsageError as error:
            problems += error.lines
    if problems:
        raise UsageError(*problems)
    return scripts


def read(path: str) -> Script:
    """One script, or UsageError."""
    return read_script(path, _content(path))


def _named(experiment: Experiment, name: str) -> str:
    """A script as named: from here, or else from the experiment."""
    below = os.path.join(experiment.root, name)
    return os.path.abspath(below if not os.path.lexists(name) and os.path.lexists(below) else name)


def _matching(experiment: Experiment, settings: Settings) -> list[str]:
    found = {
        os.path.join(experiment.root, match)
        for pattern in settings.scripts
        for match in glob.glob(pattern, root_dir=experiment.root, recursive=True)
    }
    ours = experiment.directory + os.sep
    return sorted((path for path in found if not path.startswith(ours)), key=_naturally)


def _naturally(path: str) -> list[tuple[int, str]]:
    """epoch2 before epoch10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(path)]


def _content(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError:
        raise UsageError(f"{path!r}: no path; name an sbatch script") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise UsageError(f"{path}: not a file; name an sbatch script")
        content = read_at(fd, 0, MAX_SCRIPT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    finally:
        os.close(fd)
    if len(content) > MAX_SCRIPT_BYTES:
        raise UsageError(f"{path}: larger than {MAX_SCRIPT_BYTES // 1024**2} MiB; that is no sbatch script")
    return content
