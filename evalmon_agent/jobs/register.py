"""Submits a job so that it is never submitted twice: claim, sbatch, acceptance.

The claim, an intent or a plan, is recorded under the lock, so that nobody else submits it. The intent is on disk before
sbatch runs, and its token is part of the path that Slurm keeps as the job's Command. If a submitter dies in between,
the next process finds an intent without an outcome and looks for a job with that token.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from types import FrameType
from typing import Literal

from evalmon_agent.errors import LockUnavailableError, SlurmUnavailableError, UsageError
from evalmon_agent.experiment import reports, scripts
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import locked
from evalmon_agent.experiment.state import LastSaved
from evalmon_agent.files.permissions import exposed
from evalmon_agent.files.pinned import shown
from evalmon_agent.files.private import private_file
from evalmon_agent.session import Session
from evalmon_agent.slurm import sbatch
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.failures import Failure, FailureKind, is_unfit_request
from evalmon_agent.slurm.sbatch import Submitted, in_effect, read_head
from evalmon_agent.submission.plan import Prepared
from evalmon_agent.tracking import registry
from evalmon_agent.tracking.registry import Entries, Entry, Name, Submission, What
from evalmon_agent.words.job_id import JobId, whole_job
from evalmon_agent.words.states import State

Claim = Literal["claimed", "taken", "no room", "too soon"]

_AFTER_S = 0.001

IN_FLIGHT_S = 15.0
"""How long after its intent a job may still turn up although sbatch was killed with its submitter."""

SECOND_LOOK_S = 2.0
"""The pause between two searches for a job that was not found."""

_GONE = "the script that was to be submitted is gone from EXP/evalmon/scripts"

_WINDOW_SLACK_S = 3600.0
"""How much further back accounting is asked: clocks differ, and a wider window costs nothing."""


def new_token() -> str:
    """A new, unique name for one submission."""
    return os.urandom(8).hex()


def claim(experiment: Experiment, what: What) -> Submission:
    """Put the intent to submit a monitor job on record."""
    submission = Submission(token=new_token(), what=what)
    with locked(experiment):
        experiment.ledger.append(_intent(submission, time.time()))
    return submission


def claim_evals(
    session: Session,
    submission: Submission,
    *,
    saved: LastSaved | None = None,
    instead_of: Mapping[Name, str] | None = None,
) -> Claim:
    """Put the intent on record, unless somebody else has these evals, or there is no room or it is too soon.

    `saved`: one for many claims, so that the state is loaded for the first of them only. `instead_of`: for evals that
    were submitted before, the token that counts now; they are taken only while it does.
    """
    experiment, settings = session.experiment, session.settings
    with locked(experiment):
        entries = experiment.ledger.index()
        if not _is_free(submission, entries, instead_of=instead_of or {}):
            return "taken"
        if settings.max_submit is not None:
            active = registry.in_queue(list(entries), (saved or LastSaved()).load(experiment))
            if active + submission.size > settings.max_submit:
                return "no room"
        if settings.stagger and seconds_to_wait(session) > 0:
            return "too soon"
        # These times order an eval's jobs, so they grow even if this host's clock does not.
        earlier = (entry.at + _AFTER_S for entry in entries.of_name(submission.name) if entry.has_begun)
        experiment.ledger.append(_intent(submission, max([time.time(), *earlier])))
        return "claimed"


def _is_free(submission: Submission, entries: Entries, *, instead_of: Mapping[Name, str]) -> bool:
    """Whether nobody else has claimed, planned, submitted or withdrawn these evals meanwhile."""
    token = submission.token
    claimed = entries.of_token(token)
    if claimed is not None and claimed.planned is not None and not claimed.is_waiting:
        return False
    counting = registry.latest(entries.of_name(submission.name))
    for name in submission.names:
        current = counting.get(name)
        is_our_plan = current is not None and current.is_waiting and current.token == token
        if not is_our_plan and instead_of.get(name) != (None if current is None else current.token):
            return False
    return True


def _intent(submission: Submission, at: float) -> registry.Intent:
    return registry.Intent(submission, at, socket.gethostname(), os.getpid())


def plan_evals(experiment: Experiment, new: Sequence[Prepared], *, environment: str) -> set[str]:
    """Record these as waiting, except those that somebody else has claimed; returns the tokens of the recorded.

    `environment`: the digest of the environment that they are to run with.
    """
    with locked(experiment):
        entries = experiment.ledger.index()
        free = [p.submission for p in new if _is_free(p.submission, entries, instead_of=p.instead_of)]
        experiment.ledger.append(*(registry.Planned(submission, time.time(), environment) for submission in free))
    return {submission.token for submission in free}


def withdraw(experiment: Experiment, tokens: Collection[str] | None = None) -> list[str]:
    """Record that waiting evals (all, or those of these tokens) are not to be submitted any more; returns their names.

    If they are named, those that were never submitted before are dropped: the user gave them up.
    """
    with locked(experiment):
        entries = experiment.ledger.entries()
        withdrawn = [entry for entry in registry.waiting(entries) if tokens is None or entry.token in tokens]
        submitted = {name for entry in entries if entry.accepted is not None for name in entry.submission.eval_names}
        given_up = [name for entry in withdrawn for name in entry.submission.eval_names if name not in submitted]
        experiment.ledger.append(*(registry.Withdrawn(entry.token, time.time()) for entry in withdrawn))
        if given_up and tokens is not None:
            experiment.ledger.append(registry.Dropped(tuple(given_up), time.time()))
    return [entry.submission.name for entry in withdrawn]


def drop(experiment: Experiment, names: Sequence[str]) -> None:
    """Record that these evals are off the books; UsageError if one of them was just submitted, or is about to be."""
    with locked(experiment):
        entries = experiment.ledger.entries()
        underway = {name for e in entries if e.is_open or e.is_waiting for name in e.submission.eval_names}
        busy = [name for name in names if name in underway]
        if busy:
            raise UsageError(f"{busy[0]}: it is being submitted, so it cannot be dropped; try again in a minute")
        experiment.ledger.append(registry.Dropped(tuple(names), time.time()))


def seconds_to_wait(session: Session) -> float:
    """Seconds until `stagger` allows the next eval; a time in the future (a clock that was set back) is ignored."""
    stagger_s, now = session.settings.stagger, time.time()
    last_at = registry.last_begun_at(session.experiment.ledger.index())
    passed_s = stagger_s if last_at is None or last_at > now else now - last_at
    return max(stagger_s - passed_s, 0.0)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until a submission is on record; a second one, if sbatch hangs, is not held back."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # a monitor job, which handles signals by itself
        return
    is_interrupted = False

    def hold_back(number: int, frame: FrameType | None) -> None:
        nonlocal is_interrupted
        del number, frame
        is_interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, hold_back)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_interrupted:
        raise KeyboardInterrupt


def submit(
    session: Session, submission: Submission, *, options: Sequence[str] = (), elsewhere: bool = False
) -> Submitted:
    """Run sbatch for a submission that is claimed and whose launcher is written, and record what it said.

    `options`: those of a monitor job. `elsewhere`: if sbatch is refused here, another place may be allowed to submit
    it, so the eval keeps waiting, unless Slurm refused what the eval asks for.
    """
    experiment, slurm, token = session.experiment, session.slurm, submission.token
    path, content = _launcher(experiment, submission)
    if content is None:
        return _refuse(experiment, token, _GONE)
    is_held = _needs_hold(experiment, path)
    argv = [*submission.options, *options, *(["--hold"] if is_held else [])]
    cwd = os.path.dirname(submission.script) or experiment.root
    with _for_sbatch(token, path, content) as shown_path:
        answer = slurm.submit(sbatch.argv(shown_path, options=argv), cwd=cwd, is_monitor_job=submission.what != "eval")
    if answer.job_id is None and answer.doubtful:
        answer = _looked_for(session, token, answer)
    job_id = answer.job_id
    if job_id is not None:
        # At once, without waiting for the lock: the job may start any moment, and look for its own directory.
        scripts.lead_home(experiment, token, submission.script)
    if job_id is not None and is_held:
        try:
            refusal = _release_or_cancel(slurm, job_id, content, submission.options)
        except SlurmUnavailableError as error:
            return Submitted(refusal=str(error), unknown=True)
        if refusal:
            return _refuse(experiment, token, refusal, waits=elsewhere)
    # Slurm's answer is recorded beside the intent even if somebody moved the directory meanwhile.
    with locked(experiment, wherever_it_is=True):
        now = time.time()
        if job_id is not None:
            experiment.ledger.append(registry.Accepted(token, job_id, now, cluster=answer.cluster))
        elif not answer.unknown:
            waits = answer.is_full or (elsewhere and not is_unfit_request(answer.refusal))
            answer = replace(answer, waits=waits)
            experiment.ledger.append(registry.Refused(token, answer.refusal, now, waits=waits))
    return answer


def _launcher(experiment: Experiment, submission: Submission) -> tuple[str, bytes | None]:
    """The path and the content of what sbatch gets; None if it is gone."""
    name = submission.script or f"evalmon-{submission.what}"
    path = scripts.launcher_of(experiment, submission.token, name)
    return path, scripts.read_launcher(experiment, submission.token, name)


@contextmanager
def _for_sbatch(token: str, path: str, content: bytes) -> Iterator[str]:
    """The path that sbatch is given: a private copy with the token in its path.

    A script that asks for its own path is given by its path on record.
    """
    if scripts.is_by_path(path):
        yield shown(path)
    else:
        with private_file(token, os.path.basename(path), content) as copy:
            yield copy


def _refuse(experiment: Experiment, token: str, why: str, *, waits: bool = False) -> Submitted:
    """Put on record that a claimed token cannot be submitted."""
    with locked(experiment, wherever_it_is=True):
        experiment.ledger.append(registry.Refused(token, why, time.time(), waits=waits))
    return Submitted(refusal=why, waits=waits)


def _looked_for(session: Session, token: str, answer: Submitted) -> Submitted:
    """The answer with the job of an inconclusive submission, if there is one; `unknown` where Slurm cannot be asked."""
    try:
        job_id = _jobs_by_token(session, {token: time.time()}).get(token)
    except SlurmUnavailableError:
        return replace(answer, unknown=True)
    return answer if job_id is None else replace(answer, job_id=job_id)


def confirm(experiment: Experiment, token: str | None, job_id: JobId | None) -> None:
    """Record that Slurm accepted the monitor job that runs now, in case its submitter died before it could.

    If that cannot be written now, `resolve` does it later.
    """
    if token is None or job_id is None:
        return
    with suppress(OSError, LockUnavailableError), locked(experiment):
        entry = experiment.ledger.index().of_token(token)
        if entry is not None and entry.accepted is None:
            experiment.ledger.append(registry.Accepted(token, job_id, time.time()))


def resolve(session: Session, *, sleep: Callable[[float], object] = time.sleep) -> list[Entry]:
    """All entries, after every intent whose submitter is gone was resolved by looking for its job.

    SlurmUnavailableError if Slurm cannot be asked: without it nothing may be submitted again.
    """
    experiment = session.experiment
    entries = experiment.ledger.entries()
    orphans = [entry for entry in entries if entry.is_open and entry.intent is not None and not _is_alive(entry.intent)]
    if not orphans:
        return entries
    submitted_at = {entry.token: entry.at for entry in orphans}
    jobs = _jobs_by_token(session, submitted_at)
    if len(jobs) < len(orphans):
        # One search proves nothing: the job may still be on its way, or the answer incomplete.
        youngest = max(entry.at for entry in orphans)
        sleep(min(max(youngest + IN_FLIGHT_S - time.time(), SECOND_LOOK_S), IN_FLIGHT_S))
        jobs |= _jobs_by_token(session, submitted_at)
    why_cancelled = {e.token: _release_late(session, e.submission, jobs.get(e.token)) for e in orphans}
    with locked(experiment):
        current = experiment.ledger.index()
        # Meanwhile another process may have resolved it, and even begun it again.
        for entry in (entry for entry in orphans if current.of_token(entry.token) == entry):
            job_id = jobs.get(entry.token)
            experiment.ledger.append(_outcome(entry.token, job_id, why_cancelled[entry.token]))
            if job_id is not None and entry.submission.script:
                scripts.lead_home(experiment, entry.token, entry.submission.script)
    return experiment.ledger.entries()


def _release_late(session: Session, submission: Submission, job_id: JobId | None) -> str:
    """Release a job whose submitter died before it did; returns why the job was cancelled instead, or ""."""
    path, launcher = _launcher(session.experiment, submission)
    if job_id is None or not _needs_hold(session.experiment, path):
        return ""
    if not _is_pending(session.slurm, job_id):
        return ""  # its submitter lived to release it
    return _release_or_cancel(session.slurm, job_id, launcher or b"", submission.options)


def _is_pending(slurm: Slurm, job_id: JobId) -> bool:
    answer = slurm.queue()
    if isinstance(answer, Failure):
        raise SlurmUnavailableError(f"Slurm does not say whether job {job_id} is held still ({answer.line})")
    return any(whole_job(row.job_id) == job_id and row.state is State.PENDING for row in answer.rows)


def _outcome(token: str, job_id: JobId | None, why_cancelled: str) -> registry.Record:
    now = time.time()
    if job_id is None:
        return registry.Abandoned(token, now)
    return registry.Refused(token, why_cancelled, now) if why_cancelled else registry.Accepted(token, job_id, now)


def _jobs_by_token(session: Session, submitted_at: Mapping[str, float]) -> dict[str, JobId]:
    """The jobs with these tokens: from squeue by their Command, from their own reports, or from accounting.

    Accounting lags behind, but it knows jobs that ended without a report and that squeue has forgotten.
    """
    answer = session.slurm.queue()
    if isinstance(answer, Failure):
        raise SlurmUnavailableError(
            f"an interrupted submission cannot be resolved, Slurm does not answer ({answer.line}); try again later"
        )
    if not answer.rows and _has_active(session.experiment):
        raise SlurmUnavailableError(
            "an interrupted submission cannot be resolved: squeue shows no job at all, not even those that are "
            f"active here; try again after: evalmon status {session.experiment.root}"
        )
    tokens = set(submitted_at)
    job_ids = {t: whole_job(r.job_id) for r in answer.rows for t in tokens if f"/{t}/" in r.command}
    for report in reports.changed(session.experiment.jobs, {}):
        for token in report.tokens & tokens:
            job_ids.setdefault(token, whole_job(report.job_id))
    missing = {token: at for token, at in submitted_at.items() if token not in job_ids}
    return _in_accounts(session.slurm, missing) | job_ids


def _in_accounts(slurm: Slurm, submitted_at: Mapping[str, float]) -> dict[str, JobId]:
    if not submitted_at:
        return {}
    since_s = max(time.time() - min(submitted_at.values()), 0.0) + _WINDOW_SLACK_S
    tokens = submitted_at.keys()
    answer = slurm.submitted_as(tokens, since_s=since_s)
    if isinstance(answer, Failure):
        raise SlurmUnavailableError(
            f"an interrupted submission cannot be resolved, accounting does not answer ({answer.line}); try again later"
        )
    return answer


def _has_active(experiment: Experiment) -> bool:
    state = state_file.load(experiment)
    return state is not None and any(not ev.final for ev in state.evals.values())


def _is_alive(intent: registry.Intent) -> bool:
    """Whether the submitter may still be running; on another host this cannot be seen, so time decides."""
    if intent.host != socket.gethostname():
        return time.time() - intent.at < IN_FLIGHT_S * 20
    if intent.pid == os.getpid():
        return False
    import psutil  # noqa: PLC0415 - 20 ms, for what is rarely asked

    try:
        # A process younger than the intent has merely got the same pid; a zombie submits nothing more.
        process = psutil.Process(intent.pid)
        return process.create_time() <= intent.at and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _needs_hold(experiment: Experiment, launcher: str) -> bool:
    """Whether the launcher at this path must be submitted held, because others could replace it while sbatch reads it.

    Only a script that asks Slurm for its own path is submitted by its path in EXP/evalmon. Once Slurm has spooled the
    launcher, nobody can change it any more.
    """
    return scripts.is_by_path(launcher) and next(exposed(experiment.root), None) is not None


def _release_or_cancel(slurm: Slurm, job_id: JobId, launcher: bytes, options: Sequence[str]) -> str:
    """Release the job if Slurm has spooled this launcher, else cancel it; returns why it was cancelled, or "".

    A job that the user wants held, by the script or `options`, stays held.

    Raises:
        SlurmUnavailableError: Slurm does not answer; the job is held still.
    """
    script_options = read_head(launcher.decode(errors="surrogateescape")).options
    stays_held = "hold" in in_effect(script_options, slurm.environ, options)
    spooled = slurm.batch_script(job_id)
    if isinstance(spooled, Failure):
        _raise_if_no_news(job_id, spooled)
        why = f"Slurm does not show its script ({spooled.line})"
    elif spooled.rstrip("\n") == launcher.decode(errors="replace").rstrip("\n"):
        failure = None if stays_held else slurm.release(job_id)
        if failure is None:
            return ""
        _raise_if_no_news(job_id, failure)
        why = f"it cannot be released ({failure.line})"
    else:
        why = "somebody exchanged its script while sbatch read it"
    slurm.cancel([job_id])
    return f"job {job_id} was cancelled before it ran: {why}"


def _raise_if_no_news(job_id: JobId, failure: Failure) -> None:
    if failure.kind is FailureKind.NO_NEWS:
        raise SlurmUnavailableError(f"job {job_id} is held until its script has been checked ({failure.line})")
