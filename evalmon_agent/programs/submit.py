"""`evalmon submit`: the eval scripts, registered and submitted, then the completion job and the sidecar."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from evalmon_agent.errors import SlurmUnavailableError, UsageError
from evalmon_agent.programs import register
from evalmon_agent.programs.find_scripts import find
from evalmon_agent.programs.observe import Observer
from evalmon_agent.programs.our_jobs import WAITING_BEGIN_S, Helpers, active_jobs
from evalmon_agent.programs.prepare import prepare
from evalmon_agent.programs.register import Room, Submission
from evalmon_agent.programs.submit_waiting import Progress, Submitter, on_command, tell
from evalmon_agent.programs.unlock import release_if_over
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.environment import for_evals
from evalmon_agent.slurm.failures import Failure
from evalmon_agent.slurm.late_environment import digest
from evalmon_agent.store import registry
from evalmon_agent.store import state as state_file
from evalmon_agent.store.experiment import Experiment, is_utf8
from evalmon_agent.submission.plan import Planned, plan
from evalmon_agent.tracking.records import Eval, ExperimentState
from evalmon_agent.tracking.registry import Entry, entries
from evalmon_agent.tracking.waiting import waiting
from evalmon_agent.words.states import TERMINAL

_MANY = 10
"""After so many evals the sidecar is submitted, if there are more: a site's limit on submissions may be near."""

_PATIENCE_S = 30.0
"""How long the command itself keeps to `stagger`; then the sidecar goes on."""

Mode = Literal["sidecar", "dependency"]
HelperStatus = Literal["submitted", "running", "refused", "not needed"]


@dataclass(frozen=True, slots=True)
class HelperReport:
    """What became of a job of ours."""

    status: HelperStatus
    job_id: str | None = None
    detail: str = ""


@dataclass(slots=True)
class SubmitReport:
    """What was done, for people and for --json; `refused` holds Slurm's words verbatim."""

    submitted: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str | None]] = field(default_factory=list)
    waiting: list[dict[str, str]] = field(default_factory=list)
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
    have = {e.intent.name: e for e in known if e.intent.what == "eval" and (e.accepted or e.is_open or e.is_waiting)}
    state = state_file.load(experiment)
    new = [one for one in planned if one.name not in have]
    report.skipped += [_skipped(one, have[one.name], state) for one in planned if one.name in have]
    if dry_run:
        report.submitted += [{"name": one.name, "script": one.script.path} for one in new]
        return report
    helpers = Helpers(experiment, slurm, settings, environ)
    _Evals(helpers, report, mode=mode).submit(new)
    _waiting(helpers, report, sleep=sleep)
    bring_helpers(helpers, report, mode=mode)
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
    _refuse_too_large(planned, settings)
    require_slurm(slurm)
    return planned, known


def _refuse_too_large(planned: Sequence[Planned], settings: Settings) -> None:
    """An array is submitted as one: its script may count its tasks."""
    most = settings.max_submit
    for one in planned:
        if most is not None and one.tasks is not None and len(one.tasks) > most:
            raise UsageError(
                f"{one.script.path}: an array of {len(one.tasks)} evals, and max_submit: {most} lets no more be there "
                f"at once; make it smaller arrays, or raise max_submit"
            )


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


@dataclass(frozen=True, slots=True)
class _Evals:
    """Submits new evals, or puts on record that they wait."""

    helpers: Helpers
    report: SubmitReport
    mode: Mode

    def submit(self, new: Sequence[Planned]) -> None:
        """All of them; where they are to go one by one, or the site takes no more, the rest is planned."""
        settings = self.helpers.settings
        if settings.max_submit is not None or settings.stagger:
            self._plan([(register.new_token(), one) for one in new])
            return
        for number, one in enumerate(new, 1):
            token = register.new_token()
            if not self._submit_one(token, one):
                self._plan([(token, one), *((register.new_token(), other) for other in new[number:])])
                return
            if number == _MANY and len(new) > number and self.mode == "sidecar":
                _bring_sidecar(self.helpers, self.report, mode=self.mode)

    def _submit_one(self, token: str, one: Planned) -> bool:
        """False if the site takes no more for now."""
        asked = _submission(one)
        path = self._prepare(token, one)
        experiment = self.helpers.experiment
        if register.claim_evals(experiment, token, asked, Room()) != "claimed":
            self.report.skipped.append({"name": one.name, "job_id": None, "why": "being submitted by somebody else"})
            return True
        outcome = register.submit(experiment, self.helpers.slurm, token, path, cwd=os.path.dirname(asked.script))
        if outcome.job_id is not None:
            self.report.submitted.append({"name": one.name, "job_id": outcome.job_id, "script": asked.script})
        elif not outcome.limit:
            self.report.refused.append(refused(one.name, asked.script, outcome))
        return not outcome.limit

    def _plan(self, new: Sequence[tuple[str, Planned]]) -> None:
        for token, one in new:
            self._prepare(token, one)
        plan_evals(self.helpers, {token: _submission(one) for token, one in new})

    def _prepare(self, token: str, one: Planned) -> str:
        helpers = self.helpers
        return prepare(helpers.experiment, helpers.settings, token, one.script, _submission(one))


def plan_evals(helpers: Helpers, asked: Mapping[str, Submission]) -> list[str]:
    """Put these on record as waiting, with the environment that they are to have."""
    known = entries(registry.read(helpers.experiment.registry))
    salts = (e.planned.environment.partition(":")[0] for e in known if e.planned is not None)
    environment = digest(for_evals(helpers.environ), salt=next(salts, None) or register.new_token())
    return register.plan(helpers.experiment, asked, environment=environment)


def _submission(one: Planned) -> Submission:
    return Submission(one.name, one.script.path, one.output_dir, one.tasks)


def _waiting(helpers: Helpers, report: SubmitReport, *, sleep: Callable[[float], None]) -> None:
    """Submit what waits, from now or from before, as far as there is room; tell of the rest."""
    place = on_command(helpers.environ, submits=True)
    submitter = Submitter(helpers.experiment, helpers.settings, helpers.slurm, place, sleep)
    take_progress(helpers, report, submitter.run(until=time.time() + _PATIENCE_S))


def take_progress(helpers: Helpers, report: SubmitReport, progress: Progress) -> None:
    """What became of the waiting ones, into the report and the log."""
    for entry, job_id in progress.submitted:
        name, script = entry.intent.name or "", entry.intent.script or ""
        report.submitted.append({"name": name, "job_id": job_id, "script": script})
    for entry, outcome in progress.refused:
        report.refused.append(refused(entry.intent.name or "", entry.intent.script or "", outcome))
    left = waiting(entries(registry.read(helpers.experiment.registry)))
    why = progress.detail or "submitted by somebody else"
    report.waiting += [{"name": entry.intent.name or "", "why": why} for entry in left]
    if left:
        observer = Observer(helpers.experiment, helpers.slurm, helpers.settings, role="command")
        tell(observer, progress)


def refused(name: str, script: str, outcome: register.Outcome) -> dict[str, str]:
    """Slurm's words on one script."""
    hint = "; it is not known whether Slurm took it: run the same command again to find out" if outcome.unknown else ""
    return {"name": name, "script": script, "error": outcome.refusal + hint}


def bring_helpers(helpers: Helpers, report: SubmitReport, *, mode: Mode) -> None:
    """The completion job and the sidecar, unless they live already; then one poll, which records Submit times."""
    observer = Observer(helpers.experiment, helpers.slurm, helpers.settings, role="command")
    state = observer.observe_once(at_least_s=0).state
    alive = _alive(helpers.slurm, otherwise=_ours(state))
    waiting_for = active_jobs(helpers.experiment, state)
    old = state.completion.job_id if state.completion is not None else None
    if not waiting_for and not state.waiting:
        report.completion = HelperReport("not needed", detail="no eval is active")
        report.sidecar = report.sidecar or HelperReport("not needed", detail="no eval is active")
        return
    report.completion = _completion(helpers, old, alive, waiting_for)
    if report.completion.status == "submitted" and old in alive:
        helpers.slurm.cancel([str(old)])
    report.sidecar = report.sidecar or _sidecar(helpers, state, alive, mode=mode)
    observer.record()


def _bring_sidecar(helpers: Helpers, report: SubmitReport, *, mode: Mode) -> None:
    """The sidecar before the last of many evals: where the site takes no more, it has a place, and submits the rest."""
    state = Observer(helpers.experiment, helpers.slurm, helpers.settings, role="command").record()
    alive = _alive(helpers.slurm, otherwise=_ours(state))
    report.sidecar = _sidecar(helpers, state, alive, mode=mode)


def _completion(helpers: Helpers, old: str | None, alive: frozenset[str], waiting_for: Sequence[str]) -> HelperReport:
    if old in alive and not _came_later(helpers.experiment, old):
        return HelperReport("running", old)
    outcome = helpers.submit("completion", afterany=waiting_for, begin_in_s=0 if waiting_for else WAITING_BEGIN_S)
    if outcome.job_id is None:
        detail = f"{outcome.refusal} (the summary is written by the sidecar, or by: evalmon report)"
        return HelperReport("refused", detail=detail)
    return HelperReport("submitted", outcome.job_id, f"after {len(waiting_for)} jobs")


def _came_later(experiment: Experiment, completion: str | None) -> bool:
    """Whether an eval is on record since that completion job was submitted, which thus does not wait for it."""
    known = entries(registry.read(experiment.registry))
    since = next((e.intent.at for e in known if e.accepted is not None and e.accepted.job_id == completion), 0.0)
    return any(e.intent.what == "eval" and e.accepted is not None and e.accepted.at > since for e in known)


def _sidecar(helpers: Helpers, state: ExperimentState, alive: frozenset[str], *, mode: Mode) -> HelperReport:
    if mode == "dependency":
        return HelperReport("not needed", detail="mode dependency: no live view")
    if state.sidecar is not None and state.sidecar.job_id in alive:
        return HelperReport("running", state.sidecar.job_id)
    outcome = helpers.submit("sidecar")
    if outcome.job_id is None:
        return HelperReport("refused", detail=f"{outcome.refusal} (no live view; the completion job summarises)")
    return HelperReport("submitted", outcome.job_id)


def _alive(slurm: Slurm, *, otherwise: frozenset[str]) -> frozenset[str]:
    """The ids of all jobs that are not over; `otherwise`, where Slurm does not tell: none may be submitted twice."""
    answer = slurm.queue()
    if isinstance(answer, Failure):
        return otherwise
    return frozenset(str(row.job_id) for row in answer.rows if row.state not in TERMINAL)


def _ours(state: ExperimentState) -> frozenset[str]:
    helpers = (state.sidecar, state.completion)
    return frozenset(helper.job_id for helper in helpers if helper is not None and helper.job_id is not None)


def _skipped(one: Planned, entry: Entry, state: ExperimentState | None) -> dict[str, str | None]:
    job_id = entry.accepted.job_id if entry.accepted is not None else None
    ev = state.evals.get(one.name) if state is not None else None
    return {
        "name": one.name,
        "job_id": job_id,
        "why": "already registered, waits for room" if entry.is_waiting else f"already registered ({_seen(ev)})",
    }


def _seen(ev: Eval | None) -> str:
    return str(ev.state) if ev is not None else "submitted"


def _scripts(known: Sequence[Entry]) -> set[str]:
    return {e.intent.script for e in known if e.intent.what == "eval" and e.intent.script and e.accepted}


def _output_dirs(known: Sequence[Entry], planned: set[str]) -> set[str]:
    return {
        e.intent.output_dir
        for e in known
        if e.intent.what == "eval" and e.intent.output_dir and e.accepted and e.intent.script not in planned
    }
