"""Previews a submission: asks Slurm whether it would accept the jobs, adds up requests, warns about lost output.

Nothing is written or submitted.
"""

from __future__ import annotations

import errno
import os
import pwd
import re
import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from evalmon_agent.experiment import state as state_file
from evalmon_agent.files.permissions import why_not_writable
from evalmon_agent.files.private import private_file
from evalmon_agent.jobs.eval_scripts import launcher_for
from evalmon_agent.jobs.monitor_jobs import placed
from evalmon_agent.progress_bar import progress_bar
from evalmon_agent.session import Session
from evalmon_agent.slurm import sbatch
from evalmon_agent.slurm.client import Slurm, Tested
from evalmon_agent.slurm.environment import for_evals
from evalmon_agent.slurm.failures import Failure, is_submit_limit
from evalmon_agent.slurm.sbatch import in_effect, path_beforehand
from evalmon_agent.slurm.sinfo import Partition, is_exclusive, longest_s, named_partitions
from evalmon_agent.submission.plan import Prepared, Script
from evalmon_agent.submitting.submit_evals import Mode, SubmitReport, Totals
from evalmon_agent.words.durations import clock, time_option
from evalmon_agent.words.sizes import counted, listed

MOST_ASKED = 100
"""How many scripts with different options are tested; each costs Slurm a job id and about 30 ms."""
_SAYS_NOTHING = frozenset({"job-name", "output", "error", "input", "open-mode", "comment", "mail-user", "mail-type"})

# `gpu`, `gpu:2`, `gpu:a100`, `gpu:a100:2` in --gres, `gres/gpu:2` in --tres-per-task; `2`, `a100:2` in --gpus.
_GPU = re.compile(r"(?:gres[/:])?gpu(?P<rest>(?::[^:,]*){0,2})")
_NUMBER = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class _Job:
    """One submission, with its options as Slurm would have them."""

    prepared: Prepared
    options: Mapping[str, str]

    @property
    def asks_for(self) -> tuple[object, ...]:
        """What Slurm decides by: the same for scripts that differ only in name and content."""
        head = self.prepared.script.head
        components = head.leading_lines if head.is_het else ()
        return (*components, *sorted(item for item in self.options.items() if item[0] not in _SAYS_NOTHING))


def preview(session: Session, prepared: Sequence[Prepared], report: SubmitReport, *, mode: Mode) -> None:
    """Add to the report what would be submitted and what Slurm would refuse, and the totals."""
    environ = for_evals(session.environ)
    jobs = [_Job(p, in_effect(p.script.head.options, environ, p.submission.options)) for p in prepared]
    answer = session.slurm.partitions()
    partitions = () if isinstance(answer, Failure) else answer
    answers = _answers(session, jobs, report)
    accepted = []
    for job in jobs:
        submission, tested = job.prepared.submission, answers[job.asks_for]
        if tested.refusal and not is_submit_limit(tested.refusal):
            report.refuse(submission, tested)
            continue
        accepted.append(job)
        why = f"when there is room: {tested.refusal}" if tested.refusal else job.prepared.why
        report.add(submission, why=why)
    report.warnings += _too_long(accepted, partitions)
    report.totals = _totals(session, accepted, partitions, mode=mode)


def _answers(session: Session, jobs: Sequence[_Job], report: SubmitReport) -> Mapping[tuple[object, ...], Tested]:
    """Slurm's by what the jobs ask for, each asked once."""
    groups: defaultdict[tuple[object, ...], list[_Job]] = defaultdict(list)
    for job in jobs:
        groups[job.asks_for].append(job)
    answers: dict[tuple[object, ...], Tested] = {}
    why_not = ""
    with progress_bar("Asking Slurm", min(len(groups), MOST_ASKED)) as show:
        for number, (asks_for, alike) in enumerate(groups.items()):
            if number == MOST_ASKED and not why_not:
                why_not = f"only {MOST_ASKED} different sets of options are tried"
            answers[asks_for] = Tested(unknown=why_not) if why_not else _ask(session, alike[0].prepared)
            why_not = answers[asks_for].unknown
            show(min(number + 1, MOST_ASKED))
    unasked = sum(len(alike) for asks_for, alike in groups.items() if answers[asks_for].unknown)
    if unasked:
        report.warnings.append(
            f"{unasked} of {counted(len(jobs), 'script')} were not checked by sbatch --test-only: {why_not}"
        )
    return answers


def _ask(session: Session, prepared: Prepared) -> Tested:
    submission = prepared.submission
    with private_file(submission.token, os.path.basename(submission.script), launcher_for(session, prepared)) as path:
        argv = sbatch.argv(path, options=[sbatch.TEST_ONLY, *submission.options])
        return session.slurm.test(argv, cwd=os.path.dirname(submission.script))


def _too_long(jobs: Sequence[_Job], partitions: Sequence[Partition]) -> list[str]:
    """Warn of limits above the partition's: without EnforcePartLimits Slurm accepts the jobs, which wait for ever."""
    scripts_by_words: defaultdict[str, list[str]] = defaultdict(list)
    for job in jobs:
        asked_s, most_s = time_option(job.options.get("time", "")), longest_s(job.options.get("partition"), partitions)
        if asked_s is not None and most_s is not None and asked_s > most_s:
            where = job.options.get("partition", "the default partition")
            words = f"asks for {clock(asked_s)}, and {where} gives {clock(most_s)}"
            scripts_by_words[words].append(job.prepared.script.path)
    return [
        f"{listed(scripts, most=1)}: {words}: it would wait for ever" for words, scripts in scripts_by_words.items()
    ]


def _totals(session: Session, jobs: Sequence[_Job], partitions: Sequence[Partition], *, mode: Mode) -> Totals:
    hours = [(job.prepared.submission.size, _gpu_hours(job, partitions)) for job in jobs]
    known_hours = [size * each for size, each in hours if each is not None]
    return Totals(
        evals=sum(size for size, _ in hours),
        monitor_jobs=_monitor_job_count(session, jobs, partitions, mode=mode),
        gpu_hours=sum(known_hours) if known_hours or not jobs else None,
        evals_without_gpu_hours=sum(size for size, each in hours if each is None),
    )


def _gpu_hours(job: _Job, partitions: Sequence[Partition]) -> float | None:
    """The GPU-hours of one eval; None if unknown."""
    number = None if job.prepared.script.head.is_het else gpus(job.options)
    limit_s = time_limit_s(job.options, partitions)
    if number == 0:
        return 0.0
    return None if number is None or limit_s is None else number * limit_s / 3600


def _monitor_job_count(session: Session, jobs: Sequence[_Job], partitions: Sequence[Partition], *, mode: Mode) -> int:
    """A completion job, and a sidecar unless one runs or it would take a node."""
    if not jobs:
        return 0
    if mode == "dependency":
        return 1
    state, queue = state_file.load(session.experiment), session.slurm.queue()
    alive = set() if isinstance(queue, Failure) else {row.job_id for row in queue.rows if row.goes_on}
    if state is not None and state.sidecar is not None and state.sidecar.job_id in alive:
        return 1
    where = placed(session.settings.sidecar, [job.options for job in jobs], {}).partition
    return 1 if is_exclusive(where, partitions, linear=session.slurm.gives_whole_nodes()) else 2


_MAKES_DIRECTORIES = (23, 2)
"""The first Slurm that makes the directories of --output and --error (its changelog)."""


def output_warnings(scripts: Sequence[Script], slurm: Slurm, environ: Mapping[str, str]) -> list[str]:
    """A warning for each output directory that does not exist or cannot be written to, seen from here."""
    paths = [(script.path, path) for script in scripts for path in _paths(script, environ)]
    bad = [(script, path) for script, path in paths if why_not_writable(path)]
    makes_directories = bool(bad) and (slurm.version() or (0, 0)) >= _MAKES_DIRECTORIES
    scripts_by_place: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for script, path in bad:
        why = why_not_writable(path, makes_directories=makes_directories)
        if why is not None:
            scripts_by_place[os.path.dirname(path), why].append(script)
    return [_words(directory, why, list(dict.fromkeys(of))) for (directory, why), of in scripts_by_place.items()]


def _paths(script: Script, environ: Mapping[str, str]) -> Iterator[str]:
    """The files of its output and errors, without those whose directory is not known yet."""
    options = in_effect(script.head.options, for_evals(environ))
    name = options.get("job-name") or os.path.basename(script.path)
    for which in ("output", "error") if "error" in options else ("output",):
        user, folder = pwd.getpwuid(os.geteuid()).pw_name, os.path.dirname(script.path)
        path = path_beforehand(options, which, name=name, user=user, folder=folder)
        if path is not None:
            yield path


def _words(directory: str, why: str, scripts: Sequence[str]) -> str:
    make = f"; run: mkdir -p {shlex.quote(directory)}" if why == os.strerror(errno.ENOENT) else ""
    return f"{listed(scripts, most=1)}: the output goes to {directory} ({why}), so Slurm cannot start the job{make}"


def gpus(options: Mapping[str, str]) -> int | None:
    """How many GPUs one job gets in all; 0 for none, None where its options do not say."""
    if "gpus-per-socket" in options:
        return None
    if "gpus" in options:
        return sum(_gpu_count(part) for part in options["gpus"].split(","))
    nodes = _node_count(options)
    if "gpus-per-node" in options:
        return _times(nodes, sum(_gpu_count(part) for part in options["gpus-per-node"].split(",")))
    of_node = _of_gres(options.get("gres", ""))
    if of_node:
        return _times(nodes, of_node)
    of_task = sum(_gpu_count(part) for part in options.get("gpus-per-task", "0").split(","))
    of_task += _of_gres(options.get("tres-per-task", ""))
    return _times(_task_count(options, nodes), of_task)


def time_limit_s(options: Mapping[str, str], partitions: Sequence[Partition]) -> float | None:
    """A job's time limit: its own, else its partition's. None if there is none, or if several partitions differ."""
    if options.get("time"):
        return time_option(options["time"])
    mine = named_partitions(options.get("partition"), partitions)
    limits = {p.default_time_s if p.default_time_s is not None else p.time_limit_s for p in mine}
    return limits.pop() if len(limits) == 1 else None


def _of_gres(text: str) -> int:
    return sum(
        _gpu_count(match["rest"].removeprefix(":")) for part in text.split(",") if (match := _GPU.fullmatch(part))
    )


def _gpu_count(text: str) -> int:
    """The number in `2` or `a100:2`; 1 for `a100` or an empty text."""
    last = text.rpartition(":")[2]
    return int(last) if _NUMBER.fullmatch(last) else 1


def _node_count(options: Mapping[str, str]) -> int | None:
    """None where Slurm chooses among several."""
    if "nodes" not in options:
        return 1 if options.get("ntasks", "1") == "1" else None
    least, _, most = options["nodes"].partition("-")
    return int(least) if _NUMBER.fullmatch(least) and most in {"", least} else None


def _task_count(options: Mapping[str, str], nodes: int | None) -> int | None:
    if "ntasks" in options:
        return int(options["ntasks"]) if _NUMBER.fullmatch(options["ntasks"]) else None
    per_node = options.get("ntasks-per-node", "1")
    return _times(nodes, int(per_node)) if _NUMBER.fullmatch(per_node) else None


def _times(number: int | None, each: int) -> int | None:
    """The product; 0 of each is 0 in all, even where the number is not known."""
    if each == 0:
        return 0
    return None if number is None else number * each
