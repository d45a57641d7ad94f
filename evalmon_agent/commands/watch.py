"""`evalmon watch`: adopts jobs that the user submitted without evalmon, to watch and summarise them like the rest."""

from __future__ import annotations

import fnmatch
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import click

from evalmon_agent.cli.options import experiment_argument, json_option, mode_option
from evalmon_agent.cli.output import interruptible, print_json
from evalmon_agent.cli.submissions import (
    print_exposure,
    print_monitor_jobs,
    print_places,
    print_refused_monitor_jobs,
)
from evalmon_agent.commands.report import report as write_report
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.experiment.experiment_lock import locked
from evalmon_agent.jobs.adoption import (
    KnownJobs,
    SlurmJob,
    WatchRequest,
    known_jobs,
    name_of,
    parse_requests,
    plan_adoptions,
    requested_jobs,
    with_places,
)
from evalmon_agent.monitor.poll import read_local
from evalmon_agent.session import Session
from evalmon_agent.settings import Settings
from evalmon_agent.slurm.scontrol import JobDetails
from evalmon_agent.submitting.prepare import check, resolve
from evalmon_agent.submitting.submit_evals import Mode, MonitorJobReports, start_monitor_jobs
from evalmon_agent.tracking.apply import JobIndex, is_tracked
from evalmon_agent.tracking.records import ExperimentState
from evalmon_agent.tracking.registry import Adopted, Entry, Submission, registrations
from evalmon_agent.words.job_id import JobId, component_of, whole_job
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
    requests = parse_requests(jobs)
    session = Session.of_command(experiment)
    is_first = not experiment.is_monitored()
    with interruptible("nothing was adopted"):
        report = watch(session, requests=requests, match=match, mode=mode or session.settings.mode, dry_run=dry_run)
    _print(report, experiment, dry_run=dry_run, as_json=as_json)
    if is_first:
        print_exposure(experiment, session.settings)
    sys.exit(report.exit_status)


def _print(report: WatchReport, experiment: Experiment, *, dry_run: bool, as_json: bool) -> None:
    """Print what was adopted, and on stderr a line for each job that cannot be watched."""
    if as_json:
        print_json(report)
    else:
        verb = "would watch" if dry_run else "watching"
        for ev in report.watched:
            note = f"; {printable(ev['note'])}" if "note" in ev else ""
            click.echo(f"{verb} {printable(ev['name'])}  job {ev['job_id']} ({ev['state']}){note}")
        for ev in report.skipped:
            click.echo(f"skipped {printable(ev['name'])}  job {ev['job_id']}: {ev['why']}")
        if report.unmonitored:
            click.echo("note: these jobs do not run evalmon; only Slurm's records and output files can be used")
        print_monitor_jobs(report)
        if report.watched and not dry_run:
            print_places(experiment, report)
    for job in report.refused:
        click.echo(f"evalmon: {printable(job['job_id'])}: {printable(job['error'])}", err=True)
    print_refused_monitor_jobs(report)


@dataclass(slots=True)
class WatchReport(MonitorJobReports):
    """What was done, for people and for --json; `unmonitored` names the watched evals that have no own report."""

    watched: list[dict[str, str]] = field(default_factory=list)
    unmonitored: list[str] = field(default_factory=list)
    skipped: list[dict[str, str]] = field(default_factory=list)


def watch(
    session: Session, *, requests: Sequence[WatchRequest], match: str | None, mode: Mode, dry_run: bool
) -> WatchReport:
    """Adopt these jobs, and queued or running jobs whose name matches; writes nothing before all checks."""
    experiment, settings, slurm = session.experiment, session.settings, session.slurm
    check(session)
    known = known_jobs(slurm, (request.job_id for request in requests))
    report = WatchReport()
    chosen = _chosen(known, requests, match, report)
    state, entries = _so_far(experiment, settings)
    registered = {registration.job_id for registration in registrations(entries)}
    new, hooked = _new(chosen, JobIndex(state.evals.values()), registered, report)
    taken = {name: not ev.final for name, ev in state.evals.items()}
    taken |= {e.submission.name: True for e in entries if e.is_eval and e.is_open}
    planned = plan_adoptions(new, root=experiment.root, taken=taken)
    jobs = with_places(slurm, [*planned.values(), *(job for _, job in hooked)])
    names = [*planned, *(name for name, _ in hooked)]
    adopted = _records(names, jobs, unmonitored=planned, work_dirs=_work_dirs(entries), now=time.time())
    report.watched[:0] = [_watched(name, job) for name, job in planned.items()]
    report.unmonitored = list(planned)
    if dry_run:
        return report
    experiment.prepare(group_readable=settings.group_readable)
    resolve(session)
    _claim(experiment, adopted)
    with interruptible("the jobs are adopted; run the same command again for the monitor jobs"):
        if adopted or report.skipped:
            start_monitor_jobs(session, report, mode=mode)
            if adopted and report.completion is not None and report.completion.status == "not needed":
                write_report(session)
    return report


def _chosen(
    known: KnownJobs, requests: Sequence[WatchRequest], match: str | None, report: WatchReport
) -> dict[SlurmJob, WatchRequest]:
    """The requested jobs that can be watched, each once; `report` says why the others cannot."""
    chosen: dict[SlurmJob, WatchRequest] = {}
    for request in requests:
        jobs = [] if whole_job(request.job_id) in known.monitor_jobs else requested_jobs(request, known.jobs)
        if not jobs:
            report.refused.append({"job_id": request.job_id, "error": _why_not(known, request)})
        for job in jobs:
            earlier = chosen.get(job)
            if earlier is not None and None not in (earlier.name, request.name):
                error = f"two names are given, {earlier.name} and {request.name}; give one"
                report.refused.append({"job_id": job.job_id, "error": error})
            elif earlier is None or earlier.name is None:
                chosen[job] = request
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
        report.refused.append({"job_id": match, "error": "none of your queued or running jobs has a matching name"})
    return chosen


def _why_not(known: KnownJobs, request: WatchRequest) -> str:
    job_id = whole_job(request.job_id)
    if job_id in known.monitor_jobs:
        return "one of evalmon's monitor jobs, not an eval"
    user = known.other_users.get(job_id)
    if user is not None:
        return f"a job of {user}'s; only your own can be watched"
    if job_id in known.incomplete:
        return "accounting does not have all of it yet; try again in a minute"
    if known.problem:
        return f"no job of yours in the queue, and accounting does not answer ({known.problem})"
    return "Slurm knows no such job of yours"


def _so_far(experiment: Experiment, settings: Settings) -> tuple[ExperimentState, list[Entry]]:
    """The state and the entries by the experiment's files, read anew; writes nothing."""
    held = state_file.read(experiment) or state_file.unsaved(experiment)
    facts, entries = read_local(experiment, held)
    held.take_in(facts, lost_after_s=settings.lost_after)
    return held.state, entries


def _new(
    chosen: Mapping[SlurmJob, WatchRequest], index: JobIndex, registered: Collection[JobId], report: WatchReport
) -> tuple[list[tuple[WatchRequest, SlurmJob]], list[tuple[str, SlurmJob]]]:
    """The jobs that are not evals yet; and those that are evals by their own report only, with their names."""
    new: list[tuple[WatchRequest, SlurmJob]] = []
    hooked: list[tuple[str, SlurmJob]] = []
    for job, request in chosen.items():
        same_id = index.of(job.job_id)
        if not is_tracked(same_id, job.submitted_at):
            new.append((request, job))
            continue
        name = same_id[0][0].name
        other = None if request.name is None or name_of(request.name, job.job_id) == name else request.name
        if job.job_id not in registered:
            hooked.append((name, job))
            report.watched.append(_watched(name, job))
            if other is not None:
                report.watched[-1]["note"] = f"the job's own report gives this name; {other} is not used"
        elif other is None:
            report.skipped.append({"name": name, "job_id": job.job_id, "why": "already registered"})
        else:
            error = f"it is the eval {name} already, and an eval keeps its name; leave out {other}="
            report.refused.append({"job_id": job.job_id, "error": error})
    return new, hooked


def _watched(name: str, job: SlurmJob) -> dict[str, str]:
    return {"name": name, "job_id": job.job_id, "state": str(job.state or "unknown")}


def _work_dirs(entries: Iterable[Entry]) -> list[str | None]:
    """The directories where known evals write, or (adopted ones) may write; None is that of an adopted one, unknown."""
    evals = [entry for entry in entries if entry.is_eval]
    submitted = [e.submission.output_dir for e in evals if e.adopted is None and e.submission.output_dir is not None]
    return [*submitted, *(e.adopted.work_dir for e in evals if e.adopted is not None)]


def _records(
    names: Sequence[str],
    jobs: Sequence[SlurmJob],
    *,
    unmonitored: Collection[str],
    work_dirs: Sequence[str | None],
    now: float,
) -> list[Adopted]:
    """The records. An unmonitored job's working directory is its place for CSVs only if no other eval writes there.

    As long as the directory of one is unknown (Slurm did not say), it may be that of any other.
    """
    used = Counter([*work_dirs, *(None if job.place is None else job.place.work_dir for job in jobs)])
    records = []
    for name, job in zip(names, jobs, strict=True):
        place = job.place or JobDetails(job.job_id, None)
        is_its_own = name in unmonitored and used[place.work_dir] == 1 and not used[None]
        output_dir = place.work_dir if is_its_own else None
        record = Adopted(
            Submission(name, job.script or "", output_dir),
            job.job_id,
            now,
            job.submitted_at,
            partition=place.partition,
            account=place.account,
            qos=place.qos,
            work_dir=place.work_dir,
            output=place.output,
            errors=place.errors,
        )
        records.append(record)
    return records


def _claim(experiment: Experiment, adopted: Sequence[Adopted]) -> None:
    """Record them, except those that another `watch` has recorded meanwhile."""
    with locked(experiment):
        entries = experiment.ledger.entries()
        adopted_before = {(e.adopted.job_id, e.adopted.submitted_at) for e in entries if e.adopted is not None}
        new = [record for record in adopted if (record.job_id, record.submitted_at) not in adopted_before]
        experiment.ledger.append(*new)
