"""Warns of scripts whose output Slurm will not be able to write, before they are submitted."""

from __future__ import annotations

import errno
import os
import pwd
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from evalmon_agent.files.permissions import why_not_writable
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.environment import for_evals
from evalmon_agent.slurm.output_pattern import path_beforehand
from evalmon_agent.slurm.sbatch_options import in_effect
from evalmon_agent.submission.plan import Script

_MAKES_DIRECTORIES = (23, 2)
"""The first Slurm that makes the directories of --output and --error (its changelog)."""


def warnings(scripts: Sequence[Script], slurm: Slurm, environ: Mapping[str, str]) -> list[str]:
    """One for each directory that is not there, or cannot be written to, seen from here."""
    paths = [(script.path, path) for script in scripts for path in _paths(script, environ)]
    bad = [(script, path) for script, path in paths if why_not_writable(path)]
    makes_directories = bool(bad) and (slurm.version() or (0, 0)) >= _MAKES_DIRECTORIES
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for script, path in bad:
        why = why_not_writable(path, makes_directories=makes_directories)
        if why is not None:
            found[os.path.dirname(path), why].append(script)
    return [_words(directory, why, list(dict.fromkeys(of))) for (directory, why), of in found.items()]


def _paths(script: Script, environ: Mapping[str, str]) -> Iterator[str]:
    """Its output's file, and its errors' if that is another one; without those whose directory nobody knows yet."""
    options = in_effect(script.head.options, for_evals(environ))
    name = options.get("job-name") or os.path.basename(script.path)
    for which in ("output", "error") if "error" in options else ("output",):
        user, folder = pwd.getpwuid(os.geteuid()).pw_name, os.path.dirname(script.path)
        path = path_beforehand(options, which, name=name, user=user, folder=folder)
        if path is not None:
            yield path


def _words(directory: str, why: str, scripts: Sequence[str]) -> str:
    whose = scripts[0] if len(scripts) == 1 else f"{scripts[0]} and {len(scripts) - 1} more"
    make = f"; run: mkdir -p {shlex.quote(directory)}" if why == os.strerror(errno.ENOENT) else ""
    return f"{whose}: the output goes to {directory} ({why}), so Slurm cannot start the job{make}"
