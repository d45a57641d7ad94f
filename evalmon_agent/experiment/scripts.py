"""Writes and reads scripts/{token}, the record of what Slurm got for one submission; nothing is executed there.

Slurm keeps the path by which it got the launcher as the job's Command, and the token in it tells which submission that
is. A script that asks Slurm for its own path looks beside itself for files to source, or goes there to work. So its
launcher lies in a directory `home` of its own, and sbatch gets it by that path. Once Slurm has taken it (sbatch reads
it but once), `home` becomes a link to the script's own directory: the path leads to the script.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.permissions import exposed
from evalmon_agent.files.pinned import shown
from evalmon_agent.files.private import read_private
from evalmon_agent.files.replace import replace_atomically
from evalmon_agent.submission.launcher import script_in
from evalmon_agent.submission.plan import MAX_SCRIPT_BYTES, Script

_HOME = "home"
_ASIDE = "launcher"
_ASK = (b"scontrol", b"squeue")
_FOR = (b"ommand", b"%o")
_MAX_LAUNCHER_BYTES = 2 * MAX_SCRIPT_BYTES


def asks_for_its_path(script: bytes) -> bool:
    """Whether a script seems to ask Slurm for its own path, as `scontrol show job` or `squeue -o %o` do."""
    return any(word in script for word in _ASK) and any(word in script for word in _FOR)


def launcher_parts(experiment: Experiment, path: str, script: bytes) -> list[str]:
    """The path below `scripts/{token}` of the launcher for the script at `path`.

    Not in `home` if EXP/evalmon lies below the script's directory: a link to there would be a loop, in which tools
    that follow links would get lost. Nor if others could put something in the place of EXP/evalmon, but not of what
    lies beside the script.
    """
    filename = os.path.basename(path)
    leads_home = asks_for_its_path(script) and not _why_not_home(experiment, path)
    return [_HOME, filename] if leads_home else [filename]


def _why_not_home(experiment: Experiment, path: str) -> str:
    directory = os.path.realpath(os.path.dirname(path))
    loops = os.path.commonpath([directory, experiment.directory]) == directory
    is_below = os.path.commonpath([directory, experiment.root]) == experiment.root
    if loops:
        return "the experiment lies in its directory"
    return "" if is_below or next(exposed(experiment.root), None) is None else "others can replace the experiment"


def warnings(experiment: Experiment, submitted: Sequence[Script]) -> list[str]:
    """A warning for each script that asks Slurm for its own path and will get one that does not exist."""
    asking = [script.path for script in submitted if asks_for_its_path(script.content)]
    return [
        f"{path}: seems to ask Slurm for its own path, which will lead nowhere, because {why}; let it use "
        "$SLURM_SUBMIT_DIR instead"
        for path in asking
        if (why := _why_not_home(experiment, path))
    ]


def write(experiment: Experiment, token: str, parts: Sequence[str], content: bytes) -> str:
    """Write one file of a submission, readable by this user only; returns its path as Slurm is to know it."""
    directory = experiment.scripts
    for part in (token, *parts[:-1]):
        directory = os.path.join(directory, part)
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
    path = os.path.join(directory, parts[-1])
    replace_atomically(path, content, mode=0o600)
    return shown(path)


def launcher_of(experiment: Experiment, token: str, path: str) -> str:
    """The path, for I/O, of the launcher for the script at `path`; "" if it is gone."""
    directory, filename = os.path.join(experiment.scripts, token), os.path.basename(path)
    places = (os.path.join(directory, _ASIDE), os.path.join(directory, _HOME), directory)
    return next((path for path in (os.path.join(place, filename) for place in places) if os.path.exists(path)), "")


def read_launcher(experiment: Experiment, token: str, path: str) -> bytes | None:
    """The launcher for the script at `path`; None if it is gone."""
    launcher = launcher_of(experiment, token, path)
    return read_private(launcher, max_bytes=_MAX_LAUNCHER_BYTES) if launcher else None


def read_script(experiment: Experiment, token: str, path: str) -> bytes | None:
    """The script at `path` as it was submitted; None if that is gone or damaged."""
    launcher = read_launcher(experiment, token, path)
    return None if launcher is None else script_in(launcher)


def is_by_path(launcher: str) -> bool:
    """Whether sbatch gets, or got, this launcher by its path."""
    return os.path.basename(os.path.dirname(launcher)) in {_HOME, _ASIDE}


def lead_home(experiment: Experiment, token: str, path: str) -> None:
    """Make the Command of an accepted job lead to its script's directory, if the launcher is in a `home`."""
    directory = os.path.join(experiment.scripts, token)
    home, aside = os.path.join(directory, _HOME), os.path.join(directory, _ASIDE)
    if not os.path.isdir(home) or os.path.islink(home):
        return
    with suppress(OSError):
        os.rename(home, aside)
        try:
            os.symlink(os.path.dirname(path), home)
        except OSError:
            os.rename(aside, home)
