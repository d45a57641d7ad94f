"""`evalmon doctor`: checks what this cluster and file system offer, and says what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import click

from evalmon_agent.checks.experiment import (
    check_clock,
    check_directory,
    check_file_system,
    check_notifications,
    check_records,
)
from evalmon_agent.checks.finding import Finding, ok, problem
from evalmon_agent.checks.slurm import check_answers, check_interpreter, check_programs
from evalmon_agent.cli.options import CommandOnExperiment, json_option
from evalmon_agent.cli.output import interruptible, print_json
from evalmon_agent.errors import (
    INPUT_OUTPUT,
    EvalmonError,
    LockUnavailableError,
    SlurmUnavailableError,
    UnreadableError,
    UnsafeDirectoryError,
    UsageError,
    status_of,
)
from evalmon_agent.experiment import settings_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.pinned import shown
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.words.printable import printable

_IN_ORDER = (
    UnreadableError.exit_status,
    UsageError.exit_status,
    UnsafeDirectoryError.exit_status,
    SlurmUnavailableError.exit_status,
    LockUnavailableError.exit_status,
    INPUT_OUTPUT,
    EvalmonError.exit_status,
)
"""The exit status of the first problem that a command would meet."""
_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command("doctor", cls=CommandOnExperiment, is_needed=False)
@json_option
def command(experiment: Experiment | None, as_json: bool) -> None:
    """Check the cluster and the file system, and say what to do."""
    with interruptible("the checks did not finish, and nothing was changed"):
        findings = doctor(experiment, Slurm(os.environ), environ=os.environ)
    if as_json:
        print_json([{"check": f.check, "level": f.level, "line": f.line, "advice": f.advice} for f in findings])
    else:
        _print(findings)
    sys.exit(exit_status(findings))


def _print(findings: Sequence[Finding]) -> None:
    """One line per finding: its level, what was checked, what was found, what to do."""
    width = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        level = click.style(f"{finding.level:<8}", fg=_COLOURS[finding.level])
        line = f"{finding.line}; {finding.advice}" if finding.advice else finding.line
        click.echo(f"{level} {printable(finding.check):<{width}}  {printable(line)}")


def doctor(experiment: Experiment | None, slurm: Slurm, *, environ: Mapping[str, str]) -> list[Finding]:
    """All findings; a check that fails is a finding too. Nothing is changed, but a temporary file is made in EXP."""
    findings: list[Finding] = []
    settings = Settings()
    if experiment is not None:
        settings, finding = _settings(experiment, environ)
        findings.append(finding)
        findings += _tried("directory", partial(check_directory, experiment, settings))
        findings += _tried("file system", partial(check_file_system, experiment))
        findings += _tried("clock", partial(check_clock, experiment))
        findings += _tried("records", partial(check_records, experiment))
        findings += _tried("notifications", partial(check_notifications, experiment, settings))
    findings += _tried("interpreter", check_interpreter)
    findings += _tried("programs", partial(check_programs, slurm))
    findings += _tried("controller", partial(check_answers, slurm, settings))
    return [replace(finding, line=shown(finding.line), advice=shown(finding.advice)) for finding in findings]


def exit_status(findings: Sequence[Finding]) -> int:
    """0 without a problem; else the status of the first problem that a command would meet."""
    statuses = {finding.exit_status for finding in findings if finding.level == "problem"}
    return next((status for status in _IN_ORDER if status in statuses), 0)


def _settings(experiment: Experiment, environ: Mapping[str, str]) -> tuple[Settings, Finding]:
    owner = None if experiment.is_ours else experiment.owner
    try:
        return settings_file.load(experiment.settings, environ=environ, owner=owner), ok("settings", "valid")
    except EvalmonError as error:
        advice = "correct it, then run evalmon doctor again"
        return Settings(), problem("settings", str(error), advice, exit_status=error.exit_status)


def _tried(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except EvalmonError as error:
        advice = "correct that, then run evalmon doctor again"
        return [problem(name, str(error), advice, exit_status=error.exit_status)]
    except OSError as error:
        advice = "is the file system there, and is there room on it?"
        return [problem(name, f"cannot be checked: {error}", advice, exit_status=status_of(error))]
