"""`evalmon watch`: adopts jobs that somebody else submitted, to be watched and summarised like the rest."""

from __future__ import annotations

import fnmatch
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import click

from evalmon_agent.cli.options import experiment_argument, json_option, mode_option
from evalmon_agent.cli.output import print_json
from evalmon_agent.cli.sessions import session_for
from evalmon_agent.cli.submissions import (
    print_exposure,
    print_monitor_jobs,
    print_places,
    print_refused_monitor_jobs,
)
from evalmon_agent.commands.report import report as write_report
from evalmon_agent.commands.submit import require_slurm
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.exposure import refuse_world_writable
from evalmon_agent.experiment.lock import locked
from evalmon_agent.jobs.known_jobs import KnownJobs, known_jobs
from evalmon_agent.jobs.register import resolve
from evalmon_agent.monitor.ask import read_local
from evalmon_agent.monitor.unlock import release_if_over
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.submission.adoption import (
    Adoption,
    SlurmJob,
    WatchRequest,
    parse_requests,
    plan_adoptions,
    requested_jobs,
)
from evalmon_agent.submitting.start_monitor_jobs import Mode, MonitorJobReport, start_monitor_jobs
from evalmon_agent.tracking.fold import Tracker
from evalmon_agent.tracking.match import JobIndex, is_borne
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.registry import Adopted, Entry, Submission, registrations
from evalmon_agent.words.job_id import JobId, component_of, task_of, whole_job
from evalmon_agent.words.printable import printable


@click.command("watch")
@experiment_argument()
@click.argument("jobs", nargs=-1, metavar="[[NAME=]JOBID]...")
@click.option(
    "--match", metavar="PATTERN", help="Adopt all your queued or running jobs whose name matches, e.g. 'eval_*'."
)
@mode_option
@click.option("--dry-run", is_flag=True, help="Show what would be watched.")
@json_option
def command(
    experiment: Experiment, jobs: Sequence[str], match: str | None, mode: Mode | None, dry_run: bool, as_json: bool
) -> None:
    """Adopt jobs that you submitted yourself.

    An array's id means all its tasks.
    """
    if not jobs and match is None:
        raise click.UsageError("Which jobs? Give their ids, or --match PATTERN.")
    wanted = parse_requests(jobs)
    session = session_for(experiment)
    is_first = not experiment.is_monitored()
    report = watch(session, wanted=wanted, match=match, mode=mode or session.settings.mode, dry_run=dry_run)
    _print(report, experiment, dry_run=dry_run, as_json=as_json)
    if is_first:
        print_exposure(experiment)
    sys.exit(report.exit_status)


def _print(report: WatchReport, experiment: Experiment, *, dry_run: bool, as_json: bool) -> None:
    """What was adopted; what cannot be on stderr, one line each."""
    if as_json:
        print_json(report)
    else:
        verb = "would watch" if dry_run else "watching"
        for ev in report.watched:
            click.echo(f"{verb} {printable(ev['name'])}  job {ev['job_id']} ({ev['state']})")
        for ev in report.skipped:
            click.echo(f"skipped {printable(ev['name'])}  job {ev['job_id']}: {ev['why']}")
        if report.watched:
            click.echo("note: these jobs do not run evalmon; only Slurm's records and output files can be used")
        print_monitor_jobs(report.completion, report.sidecar)
        if report.watched and not dry_run:
            print_places(experiment, report.completion)
    for job in report.refused:
        click.echo(f"evalmon: {printable(job['job_id'])}: {printable(job['error'])}", err=True)
    print_refused_monitor_jobs(report.completion, report.sidecar)


@dataclass(slots=True)
class WatchReport:
    """What was done, for people and for --json."""

    watched: list[dict[str, str]] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    completion: MonitorJobReport | None = None
    sidecar: MonitorJobReport | None = None

    @property
    def exit_status(self) -> int:
        """1 if a job is not to be had, or Slurm refused one of ours."""
        helpers = [self.completion, self.sidecar]
        return int(bool(self.refused) or any(h is not None and h.status == "refused" for h in helpers))


def watch(
    session: Session, *, wanted: Sequence[WatchRequest], match: str | None, mode: Mode, dry_run: bool
) -> WatchReport:
    """Adopt these jobs, and those of mine in the queue whose name matches; nothing is made before all checks."""
    experiment, settings, slurm = session.experiment, session.settings, session.slurm
    experiment.check()
    refuse_world_writable(experiment, settings)
    require_slurm(slurm)
    known = known_jobs(slurm, (one.job_id for one in wanted))
    report = WatchReport()
    chosen = _chosen(known, wanted, match, report)
    state, found = _so_far(experiment, settings)
    known_already = {r.job_id for r in registrations(found)}
    new, hooked = _new(chosen, JobIndex(state.evals.values()), known_already, report)
    whole = _whole_arrays(wanted, new, report)
    taken = {name: not ev.final for name, ev in state.evals.items()}
    taken |= {e.submission.name: True for e in found if e.is_eval and e.is_open}
    planned = plan_adoptions(new, root=experiment.root, taken=taken, whole=whole)
    adopted = _records(planned, work_dirs=_work_dirs(found), now=time.time())
    adopted += [_record(job, name, None, now=time.time()) for name, job in hooked]
    report.watched = [_told(one.name, one.job) for one in planned] + [_told(name, job) for name, job in hooked]
    if dry_run:
        return report
    experiment.prepare(group_readable=settings.group_readable)
    release_if_over(experiment, slurm)
    resolve(experiment, slurm)
    _claim(experiment, adopted)
    if adopted or report.skipped:
        report.completion, report.sidecar = start_monitor_jobs(session, mode=mode)
        if adopted and report.completion.status == "not needed":
            write_report(session)
    return report


def _chosen(
    known: KnownJobs, wanted: Sequence[WatchRequest], match: str | None, report: WatchReport
) -> dict[SlurmJob, WatchRequest]:
    """The jobs that are meant and can be had, each once; of the others `report` says why not."""
    chosen: dict[SlurmJob, WatchRequest] = {}
    for one in wanted:
        found = [] if whole_job(one.job_id) in known.monitor_jobs else requested_jobs(one, known.jobs)
        if not found:
            report.refused.append({"job_id": one.job_id, "error": _why_not(known, one)})
        for job in found:
            chosen.setdefault(job, one)
    if match is None:
        return chosen
    matching = [
        job
        for job_id, job in known.jobs.items()
        if job_id in known.waiting_or_running and fnmatch.fnmatchcase(job.job_name, match)
    ]
    for job in matching:
        if whole_job(job.job_id) not in known.monitor_jobs and component_of(job.job_id) is None:
            chosen.setdefault(job, WatchRequest(job.job_id, None))
    if not matching:
        report.refused.append({"job_id": match, "error": "none of your jobs in the queue has a name like that"})
    return chosen


def _why_not(known: KnownJobs, wanted: WatchRequest) -> str:
    job_id = whole_job(wanted.job_id)
    if job_id in known.monitor_jobs:
        return "a monitoring job of evalmon's, no eval"
    user = known.other_users.get(job_id)
    if user is not None:
        return f"a job of {user}'s; only your own can be watched"
    if job_id in known.incomplete:
        return "accounting has only a part of it yet; try again in a minute"
    if known.problem:
        return f"no job of yours in the queue, and accounting does not answer ({known.problem})"
    return "Slurm knows no such job of yours"


def _so_far(experiment: Experiment, settings: Settings) -> tuple[ExperimentState, list[Entry]]:
    """What is known of the experiment, its files read anew; nothing is written."""
    state = state_file.load(experiment) or ExperimentState(experiment=experiment.root)
    tracker = Tracker(state)
    facts, found = read_local(experiment, tracker)
    tracker.take(facts)
    tracker.events(lost_after_s=settings.lost_after)
    return state, found


def _new(
    chosen: Mapping[SlurmJob, WatchRequest], index: JobIndex, registered: Collection[JobId], report: WatchReport
) -> tuple[list[tuple[WatchRequest, SlurmJob]], list[tuple[str, SlurmJob]]]:
    """Those that are no eval yet; and those that are one by their own report only, with the name that they have."""
    new: list[tuple[WatchRequest, SlurmJob]] = []
    hooked: list[tuple[str, SlurmJob]] = []
    for job, wanted in chosen.items():
        bearers = index.of(job.job_id)
        if not is_borne(bearers, job.submitted_at):
            new.append((wanted, job))
        elif job.job_id in registered:
            report.skipped.append({"name": bearers[0][0].name, "job_id": job.job_id, "why": "already registered"})
        else:
            hooked.append((bearers[0][0].name, job))
    return new, hooked


def _whole_arrays(
    wanted: Sequence[WatchRequest], new: Sequence[tuple[WatchRequest, SlurmJob]], report: WatchReport
) -> set[JobId]:
    """The arrays of which all tasks are meant and none is registered: each is one record."""
    asked = {one.job_id for one in wanted}
    registered = {one["job_id"].partition("_")[0] for one in report.skipped}
    arrays = {whole_job(job.job_id) for _, job in new if task_of(job.job_id) is not None}
    return {array for array in arrays & asked if array not in registered}


def _work_dirs(found: Iterable[Entry]) -> list[str]:
    """Where the evals that are known write, or, adopted ones, may write."""
    evals = [entry for entry in found if entry.is_eval]
    places = [e.adopted.work_dir if e.adopted is not None else e.submission.output_dir for e in evals]
    return [place for place in places if place is not None]


def _records(planned: Sequence[Adoption], *, work_dirs: Sequence[str], now: float) -> list[Adopted]:
    """What goes on record. A working directory is an eval's place for CSVs only if no other eval writes there."""
    used = Counter([*work_dirs, *(one.job.work_dir for one in planned if one.job.work_dir is not None)])
    records = []
    arrays: dict[JobId, list[Adoption]] = defaultdict(list)
    for one in planned:
        if one.whole_array and task_of(one.job.job_id) is not None:
            arrays[whole_job(one.job.job_id)].append(one)
        else:
            records.append(_record(one.job, one.name, _place(one.job, used), now=now))
    for array, ones in arrays.items():
        submitted_at = min(one.job.submitted_at for one in ones)
        tasks = tuple(sorted(task_of(one.job.job_id) or 0 for one in ones))
        whole = replace(ones[0].job, job_id=array, submitted_at=submitted_at)
        records.append(_record(whole, ones[0].stem, None, now=now, tasks=tasks))
    return records


def _place(job: SlurmJob, used: Counter[str]) -> str | None:
    return job.work_dir if job.work_dir is not None and used[job.work_dir] == 1 else None


def _record(
    job: SlurmJob, name: str, output_dir: str | None, *, now: float, tasks: tuple[int, ...] | None = None
) -> Adopted:
    return Adopted(
        Submission(name, job.script or "", output_dir, tasks),
        job.job_id,
        now,
        job.submitted_at,
        partition=job.partition,
        account=job.account,
        qos=job.qos,
        work_dir=job.work_dir,
    )


def _claim(experiment: Experiment, adopted: Sequence[Adopted]) -> None:
    """Put them on record, but those that another `watch` was faster with."""
    with locked(experiment):
        found = experiment.ledger.entries()
        known = {(e.adopted.job_id, e.adopted.submitted_at) for e in found if e.adopted is not None}
        for record in adopted:
            if (record.job_id, record.submitted_at) not in known:
                experiment.ledger.append(record)


def _told(name: str, job: SlurmJob) -> dict[str, str]:
    return {"name": name, "job_id": job.job_id, "state": str(job.state or "unknown")}
