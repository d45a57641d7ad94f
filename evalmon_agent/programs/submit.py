"""`evalmon submit`: the eval scripts, registered and submitted, then the completion job and the sidecar."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from evalmon_agent.errors import SlurmUnavailableError, UsageError
from evalmon_agent.programs import own_path, register
from evalmon_agent.programs.accompany import HelperReport, Mode, accompany
from evalmon_agent.programs.find_scripts import find
from evalmon_agent.programs.unlock import release_if_over
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.store import registry
from evalmon_agent.store import state as state_file
from evalmon_agent.store.experiment import Experiment, is_utf8
from evalmon_agent.submission.launcher import SNAPSHOT, Monitored, render
from evalmon_agent.submission.plan import Planned, plan
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.registry import Entry, entries


@dataclass(slots=True)
class SubmitReport:
    """What was done, for people and for --json; `refused` holds Slurm's words verbatim."""

    submitted: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str | None]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    completion: HelperReport | None = None
    sidecar: HelperReport | None = None

    @property
    def exit_status(self) -> int:
        """1 if Slurm refused something."""
        helpers = [self.completion, self.sidecar]
        return int(bool(self.refused) or any(h is not None and h.status == "refused" for h in helpers))


def submit(
    experiment: Experiment,
    settings: Settings,
    slurm: Slurm,
    *,
    named: Sequence[str],
    mode: Mode,
    dry_run: bool,
    environ: Mapping[str, str],
    sleep: Callable[[float], None] = time.sleep,
) -> SubmitReport:
    """Submit what is not yet active or done; nothing is made or submitted before every check has passed."""
    planned, known = _checked(experiment, settings, slurm, named=named, environ=environ)
    report = SubmitReport()
    if not dry_run:
        experiment.prepare(group_readable=settings.group_readable)
        release_if_over(experiment, slurm)
        known = register.resolve(experiment, slurm, sleep=sleep)
    have = {e.intent.name: e for e in known if e.intent.what == "eval" and (e.accepted or e.is_open)}
    state = state_file.load(experiment)
    for one in planned:
        if one.name in have:
            report.skipped.append(_skipped(one, have[one.name], state))
        elif dry_run:
            report.submitted.append({"name": one.name, "script": one.script.path})
        else:
            _submit_one(experiment, settings, slurm, one, report)
    if not dry_run:
        ours = accompany(experiment, settings, slurm, mode=mode, environ=environ)
        report.completion, report.sidecar = ours.completion, ours.sidecar
    return report


def _checked(
    experiment: Experiment, settings: Settings, slurm: Slurm, *, named: Sequence[str], environ: Mapping[str, str]
) -> tuple[list[Planned], list[Entry]]:
    """What would be submitted, and what is registered already, after all checks, in the order of the contract."""
    scripts = find(experiment, settings, named)
    for one in plan(scripts, root=experiment.root, registered=(), taken=(), environ=environ):
        if not is_utf8(one.name):
            raise UsageError(f"{one.script.path}: its --job-name is not UTF-8 and cannot be kept on record; rename it")
    experiment.check()
    known = entries(registry.read(experiment.registry))
    planned = plan(
        scripts,
        root=experiment.root,
        registered=_scripts(known),
        taken=_output_dirs(known, {script.path for script in scripts}),
        environ=environ,
    )
    require_slurm(slurm)
    return planned, known


def require_slurm(slurm: Slurm) -> None:
    """SlurmUnavailableError (69) unless sbatch and squeue are here and the controller answers."""
    for program in ("sbatch", "squeue"):
        if not slurm.has(program):
            raise SlurmUnavailableError(
                f"{program} is not on PATH; run evalmon on a login node (or load the slurm module)"
            )
    answer = slurm.queue()
    if isinstance(answer, Failure):
        raise SlurmUnavailableError(f"Slurm does not answer: {answer.line}; nothing was submitted, try again later")


def _submit_one(experiment: Experiment, settings: Settings, slurm: Slurm, one: Planned, report: SubmitReport) -> None:
    token = register.new_token()
    snapshot = register.write_script(experiment, token, SNAPSHOT, one.script.content)
    launcher = render(
        Monitored(
            snapshot=snapshot,
            leading_lines=one.script.head.leading_lines,
            shebang=one.script.head.shebang or "",
            monitor_dir=experiment.directory,
            name=one.name,
            output_dir=one.output_dir,
            is_array=one.tasks is not None,
            token=token,
            interpreter=sys.executable,
            sample_interval_s=settings.sample_interval,
        )
    )
    parts = own_path.launcher_parts(experiment, one.script.path, one.script.content)
    path = register.write_script(experiment, token, parts, launcher.encode(errors="surrogateescape"))
    claimed = register.claim(
        experiment,
        token,
        "eval",
        name=one.name,
        script=one.script.path,
        output_dir=one.output_dir,
        tasks=one.tasks,
    )
    if not claimed:
        report.skipped.append({"name": one.name, "job_id": None, "why": "being submitted by somebody else"})
        return
    outcome = register.submit(experiment, slurm, token, path, cwd=os.path.dirname(one.script.path))
    if outcome.job_id is not None:
        report.submitted.append({"name": one.name, "job_id": outcome.job_id, "script": one.script.path})
    else:
        report.refused.append(_refused(one, outcome))


def _refused(one: Planned, outcome: register.Outcome) -> dict[str, str]:
    hint = "; it is not known whether Slurm took it: run the same command again to find out" if outcome.unknown else ""
    return {"name": one.name, "script": one.script.path, "error": outcome.refusal + hint}


def _skipped(one: Planned, entry: Entry, state: ExperimentState | None) -> dict[str, str | None]:
    job_id = entry.accepted.job_id if entry.accepted is not None else None
    ev = state.evals.get(one.name) if state is not None else None
    return {
        "name": one.name,
        "job_id": job_id,
        "why": f"already registered ({ev.state if ev else 'submitted'})",
    }


def _scripts(known: Sequence[Entry]) -> set[str]:
    return {e.intent.script for e in known if e.intent.what == "eval" and e.intent.script and e.accepted}


def _output_dirs(known: Sequence[Entry], planned: set[str]) -> set[str]:
    return {
        e.intent.output_dir
        for e in known
        if e.intent.what == "eval" and e.intent.output_dir and e.accepted and e.intent.script not in planned
    }
