"""Where is a script that asks Slurm for its own path? What Slurm calls its Command is our launcher's path.

Such a script looks beside itself for files to source, or goes there to work. So its launcher lies in a directory
`home` of its own, and once Slurm has taken it (sbatch reads it but once), `home` becomes a link to the script's own
directory: the path leads to the script, and the token in it still tells which submission this is.
"""

from __future__ import annotations

import os
from contextlib import suppress

from evalmon_agent.store.experiment import Experiment

HOME = "home"
LAUNCHER = "launcher"
_ASK = (b"scontrol", b"squeue")
_FOR = (b"ommand", b"%o")


def launcher_parts(experiment: Experiment, script: str, content: bytes) -> list[str]:
    """Where the launcher lies below `scripts/{token}`.

    Not in `home` if EXP/evalmon lies below the script's directory: a link to there would be a loop, in which tools
    that follow links would get lost.
    """
    filename = os.path.basename(script)
    directory = os.path.realpath(os.path.dirname(script))
    loops = os.path.commonpath([directory, experiment.directory]) == directory
    return [filename] if loops or not asks(content) else [HOME, filename]


def asks(content: bytes) -> bool:
    """Whether a script seems to ask Slurm for its path, as `scontrol show job ... Command=` or `squeue -o %o` do."""
    return any(word in content for word in _ASK) and any(word in content for word in _FOR)


def lead_home(launcher: str, directory: str) -> None:
    """Let the launcher's path lead to `directory`, if it lies in a `home`. Where that cannot be, all stays as it is."""
    home = os.path.dirname(launcher)
    if os.path.basename(home) != HOME or os.path.islink(home):
        return
    aside = os.path.join(os.path.dirname(home), LAUNCHER)
    with suppress(OSError):
        os.rename(home, aside)
        try:
            os.symlink(directory, home)
        except OSError:
            os.rename(aside, home)


def home_of(experiment: Experiment, token: str, script: str) -> str:
    """Where the launcher of a script lay that asks for its path, when it was submitted."""
    return os.path.join(experiment.scripts, token, HOME, os.path.basename(script))


def launcher_of(experiment: Experiment, token: str, script: str) -> str:
    """The path of what Slurm got for this submission."""
    directory, filename = os.path.join(experiment.scripts, token), os.path.basename(script)
    places = (os.path.join(directory, LAUNCHER), os.path.join(directory, HOME), directory)
    return next((path for path in (os.path.join(p, filename) for p in places) if os.path.exists(path)), "")
