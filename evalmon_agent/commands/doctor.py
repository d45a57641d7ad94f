"""`evalmon doctor`: what this cluster and file system offer, check by check, and what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import click

from evalmon_agent.checks import (
    directory,
    file_clock,
    filesystem,
    interpreter,
    records,
    slurm_answers,
    slurm_programs,
)
from evalmon_agent.checks.finding import Finding, ok, problem
from evalmon_agent.cli.options import experiment_argument, json_option
from evalmon_agent.cli.output import print_json
from evalmon_agent.errors import EvalmonError
from evalmon_agent.experiment import settings as settings_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.pinned import shown
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.words.printable import printable

_BY_WEIGHT = (78, 2, 77, 69, 75, 1)
_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command("doctor")
@experiment_argument(required=False)
@json_option
def command(experiment: Experiment | None, as_json: bool) -> None:
    """Check the cluster and the file system, and say what to do."""
    findings = doctor(experiment, Slurm(os.environ), environ=os.environ)
    if as_json:
        print_json([{"check": f.check, "level": f.level, "line": f.line, "advice": f.advice} for f in findings])
    else:
        _print(findings)
    sys.exit(exit_status(findings))


def _print(findings: Sequence[Finding]) -> None:
    """One line per finding: how it stands, what was looked at, what was found, what to do."""
    width = max((len(finding.check) for finding in findings), default=0)
    for finding in findings:
        level = click.style(f"{finding.level:<8}", fg=_COLOURS[finding.level])
        line = f"{finding.line}; {finding.advice}" if finding.advice else finding.line
        click.echo(f"{level} {printable(finding.check):<{width}}  {printable(line)}")


def doctor(experiment: Experiment | None, slurm: Slurm, *, environ: Mapping[str, str]) -> list[Finding]:
    """All findings. Nothing is changed; in the experiment a file is made for a moment. A check that fails is one."""
    found: list[Finding] = []
    settings = Settings()
    if experiment is not None:
        exp = experiment
        settings, about_settings = _settings(exp, environ)
        found.append(about_settings)
        for name, check in (
            ("directory", lambda exp: directory.check(exp, settings)),
            ("file system", filesystem.check),
            ("clock", file_clock.check),
            ("records", records.check),
        ):
            found += _tried(name, lambda check=check: check(exp))  # type: ignore[misc]
    found += _tried("interpreter", interpreter.check)
    found += _tried("programs", lambda: slurm_programs.check(slurm))
    found += _tried("controller", lambda: slurm_answers.check(slurm, settings))
    return [replace(one, line=shown(one.line), advice=shown(one.advice)) for one in found]


def exit_status(found: Sequence[Finding]) -> int:
    """0 without a problem; else that of the first thing that a command would stumble over."""
    statuses = {one.exit_status for one in found if one.level == "problem"}
    return next((status for status in _BY_WEIGHT if status in statuses), 0)


def _settings(experiment: Experiment, environ: Mapping[str, str]) -> tuple[Settings, Finding]:
    owner = None if experiment.is_ours else experiment.owner
    try:
        return settings_file.load(experiment.settings, environ=environ, owner=owner), ok("settings", "valid")
    except EvalmonError as error:
        return Settings(), problem("settings", str(error), "mend it, then ask again", exit_status=error.exit_status)


def _tried(name: str, check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except EvalmonError as error:
        return [problem(name, str(error), "mend that, then ask again", exit_status=error.exit_status)]
    except OSError as error:
        return [problem(name, f"cannot be checked: {error}", "is the file system there, and is there room on it?")]
