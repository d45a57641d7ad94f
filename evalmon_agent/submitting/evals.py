"""Submits evals, all at once or one by one as there is room, and puts on record what must wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from evalmon_agent.jobs import register
from evalmon_agent.jobs.our_jobs import Helpers
from evalmon_agent.jobs.prepare import prepare
from evalmon_agent.jobs.register import BatchJob, Room
from evalmon_agent.monitor.poll import Observer
from evalmon_agent.slurm.environment import for_evals
from evalmon_agent.slurm.late_environment import digest
from evalmon_agent.submission.plan import Prepared
from evalmon_agent.submitting.accompany import Mode, bring_sidecar
from evalmon_agent.submitting.report import SubmitReport
from evalmon_agent.submitting.waiting import Progress, Submitter, on_command, tell
from evalmon_agent.tracking.registry import Submission
from evalmon_agent.tracking.unsubmitted import waiting
from evalmon_agent.words.job_id import JobId

_MANY = 10
"""After so many evals the sidecar is submitted, if there are more: a site's limit on submissions may be near."""

_PATIENCE_S = 30.0
"""How long the command itself keeps to `stagger`; then the sidecar goes on."""


@dataclass(frozen=True, slots=True)
class Evals:
    """Submits evals for one command, or puts on record that they wait."""

    helpers: Helpers
    report: SubmitReport
    mode: Mode
    sleep: Callable[[float], object] = time.sleep

    def submit(self, new: Sequence[Prepared]) -> None:
        """All of them, and those that wait from before, as far as there is room."""
        settings = self.helpers.settings
        if settings.max_submit is not None or settings.stagger:
            self._plan(new)
        else:
            self._submit_until_full(new)
        self._submit_waiting({one.submission.token: one for one in new})

    def _submit_until_full(self, new: Sequence[Prepared]) -> None:
        for number, one in enumerate(new, 1):
            if not self._submit_one(one):
                self._plan(new[number - 1 :])
                return
            if number == _MANY and len(new) > number and self.mode == "sidecar":
                self.report.sidecar = bring_sidecar(self.helpers, mode=self.mode)

    def _submit_one(self, one: Prepared) -> bool:
        """False if the site takes no more for now."""
        experiment, submission = self.helpers.experiment, one.submission
        job = self._prepare(one)
        if register.claim_evals(experiment, submission, Room(), instead_of=one.instead_of) != "claimed":
            self.report.skipped.append(_taken(submission))
            return True
        outcome = register.submit(experiment, self.helpers.slurm, job)
        if outcome.job_id is not None:
            self._submitted(one, submission, outcome.job_id)
        elif not outcome.limit:
            self.report.refused.append(_refused(submission, outcome))
        return not outcome.limit

    def _plan(self, new: Sequence[Prepared]) -> None:
        """Put these on record as waiting, with the environment that they are to have."""
        for one in new:
            self._prepare(one)
        experiment = self.helpers.experiment
        known = experiment.ledger.entries()
        salts = (e.planned.environment.partition(":")[0] for e in known if e.planned is not None)
        environment = digest(for_evals(self.helpers.environ), salt=next(salts, None) or register.new_token())
        planned = register.plan(experiment, new, environment=environment)
        self.report.skipped += [_taken(one.submission) for one in new if one.submission.token not in planned]

    def _submit_waiting(self, new: Mapping[str, Prepared]) -> None:
        helpers = self.helpers
        place = on_command(helpers.environ, submits=True)
        submitter = Submitter(helpers.experiment, helpers.settings, helpers.slurm, place, self.sleep)
        progress = submitter.run(until=time.time() + _PATIENCE_S)
        for submission, job_id in progress.submitted:
            token = submission.token
            self._submitted(new.get(token), submission, job_id, why=progress.changes.get(token, ""))
        self.report.refused += [_refused(submission, outcome) for submission, outcome in progress.refused]
        self._tell_waiting(progress)

    def _tell_waiting(self, progress: Progress) -> None:
        helpers = self.helpers
        left = waiting(helpers.experiment.ledger.entries())
        why = progress.detail or "submitted by somebody else"
        self.report.waiting += [{"name": entry.submission.name, "why": why} for entry in left]
        if left:
            tell(Observer(helpers.experiment, helpers.slurm, helpers.settings, role="command"), progress)

    def _submitted(self, one: Prepared | None, submission: Submission, job_id: JobId, *, why: str = "") -> None:
        told = {"name": submission.name, "job_id": job_id, "script": submission.script}
        why = one.why if one is not None and one.why else why
        self.report.submitted.append({**told, "why": why} if why else told)

    def _prepare(self, one: Prepared) -> BatchJob:
        helpers = self.helpers
        return prepare(helpers.experiment, helpers.settings, one)


def _taken(submission: Submission) -> dict[str, str | None]:
    return {"name": submission.name, "job_id": None, "why": "being submitted by somebody else"}


def _refused(submission: Submission, outcome: register.Outcome) -> dict[str, str]:
    """Slurm's words on one script."""
    hint = "; it is not known whether Slurm took it: run the same command again to find out" if outcome.unknown else ""
    return {"name": submission.name, "script": submission.script, "error": outcome.refusal + hint}
