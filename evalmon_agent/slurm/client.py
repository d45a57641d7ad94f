"""Asks Slurm: each call is an argv, a run and a parse; a failure is returned, never raised."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from evalmon_agent.slurm import sacct, sbatch, scontrol, seff, sinfo, squeue
from evalmon_agent.slurm.commands import Finished, find_program, run
from evalmon_agent.slurm.environment import clean, for_evals, for_monitor_jobs
from evalmon_agent.slurm.failures import Failure, FailureKind, classify
from evalmon_agent.slurm.sbatch import Submitted
from evalmon_agent.words.durations import parse_stamp
from evalmon_agent.words.job_id import JobId, whole_job

ASK_TIMEOUT_S = 60.0
SEFF_TIMEOUT_S = 20.0
LAST_ASK_TIMEOUT_S = 5.0
"""The time-out in a process that is being ended: KillWait is 30 s by default."""
SUBMIT_TIMEOUT_S = 300.0
IDS_PER_CALL = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Tested:
    """The answer of `sbatch --test-only`: no objection, or why Slurm refuses the job, or why that is unknown."""

    refusal: str = ""
    unknown: str = ""


class Slurm:
    """Slurm as this user sees it from this host. One command at a time, each with a time-out.

    `stopped`: once it says so, a question is given up (StoppedError); a submission never is.
    """

    def __init__(self, environ: Mapping[str, str], *, stopped: Callable[[], bool] | None = None) -> None:
        self.environ: Mapping[str, str] = dict(environ)
        self.stopped = stopped
        self._asking = clean(environ)
        self._found: dict[str, str] = {}
        self._squeue = squeue.Parser()

    def has(self, program: str) -> bool:
        """Whether this Slurm program is on PATH."""
        return self._find(program) is not None

    def queue(self) -> squeue.SqueueAnswer | Failure:
        """All jobs of this user, ended ones too, in one call."""
        return self._parsed(squeue.argv(), self._squeue.parse)

    def account(self, job_ids: Sequence[JobId]) -> sacct.SacctAnswer | Failure:
        """All attempts of these jobs, in one call; IDS_PER_CALL of them are answered soon."""
        answer = self._ask_sacct(sacct.FIELDS, sacct.by_id(job_ids))
        return answer if isinstance(answer, Failure) else sacct.parse(answer)

    def places(self, job_ids: Sequence[JobId]) -> list[scontrol.JobDetails]:
        """Where at most IDS_PER_CALL jobs ran, by accounting; since 24.05 their outputs, too. Empty without answer."""
        answer = self._ask_sacct(sacct.OUTPUTS, sacct.by_id(job_ids))
        if isinstance(answer, Failure) and sacct.is_unknown_field(answer.line):
            answer = self._ask_sacct(sacct.PLACES, sacct.by_id(job_ids))
        return [] if isinstance(answer, Failure) else sacct.parse_places(answer)

    def places_in_queue(self) -> list[scontrol.JobDetails]:
        """Where all my queued and running jobs run, in one call; not where they write. Empty without answer."""
        answer = self._parsed(squeue.places_argv(), squeue.parse_places)
        return [] if isinstance(answer, Failure) else answer

    def details(self, job_id: JobId) -> list[scontrol.JobDetails]:
        """What the controller knows of a job, or of an array's tasks; empty once it has forgotten it."""
        done = self._ask(scontrol.show_job(job_id), timeout_s=LAST_ASK_TIMEOUT_S)
        return scontrol.parse_jobs(done.stdout) if done.ok else []

    def submitted_as(self, tokens: Collection[str], *, since_s: float) -> dict[str, JobId] | Failure:
        """{token: job id} of my jobs of the last `since_s` seconds whose sbatch line has the token, ended ones too.

        Empty without accounting, or if its release does not have the field yet.
        """
        if not self.has("sacct"):
            return {}
        which = sacct.ended_lately(user_id=os.getuid(), since_s=math.ceil(since_s))
        answer = self._ask_sacct(sacct.SUBMIT_LINE, which)
        if not isinstance(answer, Failure):
            return sacct.parse_submit_lines(answer, tokens=tokens)
        cannot_tell = answer.kind is FailureKind.ACCOUNTING_DISABLED or sacct.is_unknown_field(answer.line)
        return {} if cannot_tell else answer

    def efficiency(self, job_id: JobId) -> Finished:
        """What seff prints of one job."""
        return self._ask(seff.argv(job_id), timeout_s=SEFF_TIMEOUT_S)

    def partitions(self) -> tuple[sinfo.Partition, ...] | Failure:
        """The partitions with their limits."""
        return self._parsed(sinfo.argv(), sinfo.parse)

    def configuration(self) -> Mapping[str, str] | Failure:
        """The cluster's configuration, as the controller has it."""
        return self._parsed(scontrol.config_argv(), scontrol.parse_config)

    def version(self) -> tuple[int, int] | None:
        """The Slurm release of the commands, as (24, 11)."""
        return scontrol.parse_version(self._ask(scontrol.version_argv()).stdout)

    def node_memory(self) -> dict[str, int] | Failure:
        """{partition: bytes of its largest node}."""
        return self._parsed(sinfo.memory_argv(), sinfo.parse_memory)

    def ends_at(self, job_id: JobId) -> float | None:
        """When a job's time limit is reached (epoch); None if Slurm does not say."""
        done = self._ask(squeue.end_argv(job_id))
        return parse_stamp(done.stdout) if done.ok else None

    def is_preempted(self, job_id: JobId) -> bool:
        """Whether this job is being ended by preemption and will not run again; False if Slurm does not say."""
        return any(job.is_preempted for job in self.details(job_id))

    def gives_whole_nodes(self) -> bool:
        """Whether every job takes whole nodes on this cluster; False if Slurm does not say."""
        configuration = self.configuration()
        return not isinstance(configuration, Failure) and scontrol.gives_whole_nodes(configuration)

    def submit(self, argv: Sequence[str], *, cwd: str, is_monitor_job: bool = False) -> Submitted:
        """Run this sbatch from `cwd`. Slurm's message is passed on verbatim.

        `is_monitor_job`: its options say all that it needs; the user's SBATCH_GRES and the like are for the
        evals.
        """
        env = for_monitor_jobs(self.environ) if is_monitor_job else for_evals(self.environ)
        if "PWD" in env:
            env["PWD"] = cwd  # as after `cd`, before plain sbatch
        at = self._absolute(argv)
        done = run(at, timeout_s=SUBMIT_TIMEOUT_S, env=env, cwd=cwd, dies_with_us=True)
        if done.returncode is None:
            return Submitted(refusal=done.problem)
        answer = sbatch.parse(done.stdout, done.stderr)
        has_ended_badly = not done.timed_out and done.returncode > 0
        if answer.job_id is not None and (answer.said_plainly or not has_ended_badly):
            # If an id was printed the job exists, whatever happened to sbatch afterwards.
            return answer
        words = _without_blank_lines(done.stderr)
        if not has_ended_badly:
            return Submitted(refusal=words or "sbatch printed no job id", unknown=True, doubtful=True)
        failure = classify(done.returncode, done.stdout, done.stderr)
        kind = None if failure is None else failure.kind
        return Submitted(
            refusal=words or f"sbatch: exit status {done.returncode}",
            # "Socket timed out": the controller may have accepted the job anyway.
            unknown=kind is FailureKind.NO_NEWS,
            doubtful=kind is not FailureKind.REFUSED,
        )

    def test(self, argv: Sequence[str], *, cwd: str) -> Tested:
        """Run this sbatch, which has `--test-only`, as `submit` would run it without."""
        at = self._absolute(argv)
        done = run(at, timeout_s=ASK_TIMEOUT_S, env=for_evals(self.environ), cwd=cwd, dies_with_us=True)
        words = _without_blank_lines(done.stderr) or done.problem
        if done.returncode is None or done.timed_out or done.returncode < 0:
            return Tested(unknown=words or "sbatch gave no answer in time")
        answer = sbatch.parse(done.stdout, done.stderr)
        job_id = answer.job_id
        if job_id is not None and (answer.said_plainly or self._is_of(job_id, argv[-1])):
            self.cancel([job_id])
            return Tested(unknown=f"this sbatch submits despite --test-only; job {job_id} is cancelled")
        if job_id is not None:
            # Of a wrapper of the site's: it may be a job's id that the queue does not show yet, or any number.
            look = f"if job {job_id} is this script's, cancel it"
            return Tested(unknown=f"this sbatch may have submitted it despite --test-only; {look}")
        failure = classify(done.returncode, done.stdout, done.stderr)
        is_no_answer = failure is not None and failure.kind is FailureKind.NO_NEWS
        # A site's own sbatch wrapper may not know the option.
        if is_no_answer or (done.returncode and sbatch.TEST_ONLY in words):
            return Tested(unknown=words)
        return Tested(refusal=words or f"sbatch: exit status {done.returncode}") if done.returncode else Tested()

    def _is_of(self, job_id: JobId, path: str) -> bool:
        """Whether this job was submitted from that path: a number that a site's wrapper prints may be another job."""
        answer = self.queue()
        return not isinstance(answer, Failure) and any(
            (whole_job(row.job_id), row.command) == (job_id, path) for row in answer.rows
        )

    def batch_script(self, job_id: JobId) -> str | Failure:
        """The script that Slurm has spooled for a job of mine; bytes that are not UTF-8 are replaced."""
        return self._parsed(scontrol.write_script(job_id), str)

    def release(self, job_id: JobId) -> Failure | None:
        """Release a held job."""
        return _failure(self._ask(["scontrol", "release", job_id]))

    def rename(self, job_id: JobId, name: str) -> Failure | None:
        """Give a job another name."""
        return _failure(self._ask(["scontrol", "update", f"JobId={job_id}", f"JobName={name}"]))

    def cancel(self, job_ids: Sequence[JobId]) -> Failure | None:
        """scancel these jobs; ended jobs are not an error."""
        if not job_ids:
            return None
        return _failure(self._ask(["scancel", "-Q", *job_ids]))

    def _ask(self, argv: Sequence[str], *, timeout_s: float | None = None) -> Finished:
        within_s = ASK_TIMEOUT_S if timeout_s is None else timeout_s
        return run(self._absolute(argv), timeout_s=within_s, env=self._asking, cwd="/", stopped=self.stopped)

    def _parsed(self, argv: Sequence[str], parse: Callable[[str], T]) -> T | Failure:
        done = self._ask(argv)
        return _failure(done) or parse(done.stdout)

    def _ask_sacct(self, fields: Sequence[str], which: Sequence[str]) -> Iterable[sacct.Row | None] | Failure:
        # A random delimiter, which nobody can put into a job's name beforehand.
        delimiter = f"\x1f{os.urandom(4).hex()}"
        argv = sacct.argv(fields, which, delimiter=delimiter)
        return self._parsed(argv, lambda text: sacct.rows(text, fields, delimiter=delimiter))

    def _absolute(self, argv: Sequence[str]) -> list[str]:
        return [self._find(argv[0]) or argv[0], *argv[1:]]

    def _find(self, program: str) -> str | None:
        """The absolute path of a Slurm program; once found, it stays the same: nobody can plant another one later."""
        if program not in self._found and (path := find_program(program, self.environ)) is not None:
            self._found[program] = path
        return self._found.get(program)


def _without_blank_lines(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if line.strip())


def _failure(done: Finished) -> Failure | None:
    if done.returncode is None:
        return Failure(FailureKind.UNUSABLE, done.problem)
    if done.timed_out:
        return Failure(FailureKind.NO_NEWS, "no answer in time; killed")
    if done.cut:
        return Failure(FailureKind.UNUSABLE, "the answer is too large to be one")
    return classify(done.returncode, done.stdout, done.stderr)
