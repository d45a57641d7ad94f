"""Which file Slurm could not open when it was to start a job."""

from __future__ import annotations

import os

from evalmon_agent.collect.traces import Outputs
from evalmon_agent.evidence.diagnosis.case import Unopened
from evalmon_agent.files.writable import why_not_writable
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.words.job_id import JobId


def unopened(outputs: Outputs, slurm: Slurm, job_id: JobId) -> Unopened:
    """That of the script's options if something is wrong with it; else Slurm is asked which files they were."""
    written = [path for path in (outputs.output, outputs.errors) if path is not None]
    return _unwritable(written) or _told(slurm, job_id) or Unopened(path=_directory(written))


def _told(slurm: Slurm, job_id: JobId) -> Unopened | None:
    files = slurm.standard_files(job_id)
    written = [files[name] for name in ("StdOut", "StdErr") if name in files]
    read = files.get("StdIn", os.devnull)
    if found := _unwritable(written):
        return found
    if not os.access(read, os.R_OK):
        return Unopened("input", read, "cannot be read here")
    return Unopened(path=_directory(written)) if written else None


def _unwritable(paths: list[str]) -> Unopened | None:
    problems = ((path, why_not_writable(path)) for path in paths)
    return next((Unopened("output", os.path.dirname(path), problem) for path, problem in problems if problem), None)


def _directory(paths: list[str]) -> str | None:
    return os.path.dirname(paths[0]) if paths else None
