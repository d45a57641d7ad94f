"""Reads the jobs' own reports in jobs/; only files that changed are opened.

A job's report has what its batch script saw. What `srun evalmon run` saw lies in a file of its own for each task of a
step (`123.0.1.json`), and is read with the job's.
"""

from __future__ import annotations

import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from zlib import crc32

import msgspec

from evalmon_agent.agent.sampling.nvml import NO_GPU
from evalmon_agent.evidence.kinds.kind import ObservedProgram
from evalmon_agent.files.private import opened
from evalmon_agent.files.trusted import read_at
from evalmon_agent.tracking.records import JobReport, SelfReport, Witness
from evalmon_agent.words.job_id import parse_job_id

SCHEMA = 1
MAX_BYTES = 4 * 1024 * 1024
MAX_RESTARTS = 10_000
_PROGRAMS_AT_MOST = 500
_STEP_FILES_AT_MOST = 1000
_FIRST_LOOK_S = 2.0
_DOTS_OF_A_STEP = 3
_STEP_FILE = re.compile(r"(.+)\.\d+\.\d+\.json")


class _Command(msgspec.Struct):
    """A command that `evalmon run` started. Times are epoch seconds by the node's clock."""

    witness: Witness | None = None
    elapsed_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None


class _Sampler(msgspec.Struct, frozen=True):
    """What the sampler did, of which only the interval is read."""

    interval_ms: int = 0
    no_gpu_file: str | None = None


class _Program(ObservedProgram, frozen=True, kw_only=True):
    """An eval program that was seen in the job, with its first process, as in `/proc/PID/stat`."""

    pid: int = 0
    start_ticks: int = 0


class _Attempt(msgspec.Struct):
    """One run of the job; `scope`: whether the commands' end is that of the whole job or of a part of it.

    `restart`: SLURM_RESTART_COUNT. `token`: that of the submission. `programs`: the eval programs that were seen.
    """

    restart: int = 0
    host: str | None = None
    boot_id: str | None = None
    node: str | None = None
    nodes: int | None = None
    started_at: float | None = None
    ended_at: float | None = None
    elapsed_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    scope: str = "job"
    token: str | None = None
    output_dir: str | None = None
    notes: list[str] = []
    commands: list[_Command] = []
    programs: list[_Program] = []
    programs_left_out: int = 0
    sampler: _Sampler = _Sampler()


class Report(msgspec.Struct):
    """What a job says of itself: its id and names, and its attempts, oldest first. Further members are not read."""

    schema: int
    job_id: str
    name: str | None = None
    job_name: str | None = None
    attempts: list[_Attempt] = []


_decoder = msgspec.json.Decoder(Report)


def changed(directory: str, known: Mapping[str, str]) -> Iterator[SelfReport]:
    """The reports whose version is not the known one.

    One scandir; a file that is not a regular file of this user's, or too large, or that does not parse, or of another
    schema, is passed over and looked at again next time: one job's report must not stop the others'.
    """
    try:
        with os.scandir(directory) as listing:
            entries = list(listing)
    except FileNotFoundError:
        return
    of_steps: dict[str, list[os.DirEntry[str]]] = defaultdict(list)
    for entry in entries:
        if entry.name.count(".") == _DOTS_OF_A_STEP and (match := _STEP_FILE.fullmatch(entry.name)):
            of_steps[f"{match[1]}.json"].append(entry)
    for entry in entries:
        known_version = known.get(entry.name)
        if known_version is None and not _is_report(entry.name):
            continue
        report = _read(entry, of_steps.get(entry.name, ()), known_version)
        if report is not None:
            yield report


def unread(directory: str) -> list[str]:
    """The files with the name of a report that cannot be used."""
    used = {report.source for report in changed(directory, {})}
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if _is_report(name) and name not in used)


def _is_report(name: str) -> bool:
    job_id = name.removesuffix(".json")
    return job_id != name and parse_job_id(job_id) is not None


def _read(
    entry: os.DirEntry[str], of_steps: Sequence[os.DirEntry[str]], known_version: str | None
) -> SelfReport | None:
    try:
        # A job's files are written anew in place of one another: what is read is of this version or a later one.
        version = _version([entry, *of_steps])
    except OSError:
        return None
    report = _decoded(entry) if version != known_version else None
    job_id = parse_job_id(report.job_id) if report is not None else None
    if report is None or job_id is None or f"{report.job_id}.json" != entry.name:
        return None
    if not all(0 <= attempt.restart <= MAX_RESTARTS for attempt in report.attempts):
        return None
    output_dir = next((a.output_dir for a in reversed(report.attempts) if a.output_dir), None)
    by_name = sorted(of_steps, key=lambda step: step.name)
    steps = [step for step in map(_decoded, by_name[:_STEP_FILES_AT_MOST]) if step is not None]
    unread = max(0, len(of_steps) - _STEP_FILES_AT_MOST)
    attempts = [
        _attempt_report(
            attempt,
            [part for step in steps for part in step.attempts if part.restart == attempt.restart],
            unread=unread,
        )
        for attempt in report.attempts
    ]
    tokens = frozenset(attempt.token for attempt in report.attempts if attempt.token)
    return SelfReport(entry.name, version, job_id, report.name, output_dir, attempts, tokens, report.job_name)


def _decoded(entry: os.DirEntry[str]) -> Report | None:
    """What a file says; None if it cannot be used."""
    try:
        with opened(entry.path) as (descriptor, status):
            ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
            if not ours or status.st_size > MAX_BYTES:
                return None
            report = _decoder.decode(read_at(descriptor, 0, status.st_size))
    except (OSError, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    return report if report.schema == SCHEMA else None


def _attempt_report(attempt: _Attempt, parts: Sequence[_Attempt], *, unread: int) -> JobReport:
    """An attempt; `parts`: what tasks of its steps reported; `unread`: the reports of so many tasks were not read."""
    whole = attempt.scope == "job"
    last = attempt.commands[-1] if attempt.commands and not whole else attempt
    programs = _programs([attempt, *parts])
    return JobReport(
        restart=attempt.restart,
        token=attempt.token,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        elapsed_s=attempt.elapsed_s,
        exit_code=last.exit_code,
        signal=last.signal,
        whole_job=whole,
        host=attempt.host,
        notes=attempt.notes,
        eval_programs=programs[:_PROGRAMS_AT_MOST],
        witness=_witness(attempt, parts, left_out=unread + max(0, len(programs) - _PROGRAMS_AT_MOST)),
        sample_interval_s=attempt.sampler.interval_ms / 1000 or None,
        has_no_gpu=(attempt.sampler.no_gpu_file or "").startswith(NO_GPU),
    )


def _programs(reports: Iterable[_Attempt]) -> list[ObservedProgram]:
    """Each program once: several may have seen it, and who saw it longest knows most of it."""
    by_process: dict[tuple[object, ...], _Program] = {}
    for report in reports:
        for program in report.programs:
            process = (report.boot_id or report.host, program.pid, program.start_ticks)
            before = by_process.get(process, program)
            by_process[process] = max(before, program, key=lambda seen: (len(seen.wrote), seen.ended_at is not None))
    return [
        ObservedProgram(**{name: getattr(program, name) for name in ObservedProgram.__struct_fields__})
        for program in by_process.values()
    ]


def _witness(attempt: _Attempt, parts: Sequence[_Attempt], *, left_out: int) -> Witness | None:
    """Those of all its commands as one; None if one of them had none, unless it was over before the first look."""
    witnesses = [
        command.witness
        for command in attempt.commands
        if command.witness is not None or command.elapsed_s is None or command.elapsed_s >= _FIRST_LOOK_S
    ]
    witnesses = witnesses or [Witness(by="cgroup")] * bool(attempt.commands)
    looked = [witness for witness in witnesses if witness is not None and witness.by is not None]
    if not looked or len(looked) < len(witnesses):
        return None
    looked_in_parts = [command.witness for part in parts for command in part.commands if command.witness is not None]
    left_out += sum(report.programs_left_out for report in (attempt, *parts))
    return Witness(
        by=max((witness.by for witness in looked if witness.by), key=lambda by: by != "cgroup"),
        since=min((witness.since for witness in looked if witness.since is not None), default=None),
        until=max((witness.until for witness in looked if witness.until is not None), default=None),
        left_out=left_out + sum(witness.left_out for witness in (*looked, *looked_in_parts)),
        nodes_unseen=_nodes_unseen(attempt, parts),
        trouble=next((witness.trouble for witness in looked if witness.trouble), None),
    )


def _nodes_unseen(attempt: _Attempt, parts: Sequence[_Attempt]) -> int:
    """On how many of its nodes nobody looked by the job's cgroup."""
    looked_at = {
        part.node
        for part in parts
        if any(command.witness is not None and command.witness.by == "cgroup" for command in part.commands)
    }
    return max(0, (attempt.nodes or 1) - len({attempt.node} | looked_at))


def _version(entries: Sequence[os.DirEntry[str]]) -> str:
    """Raises OSError."""
    versions = []
    for entry in entries:
        status = entry.stat(follow_symlinks=False)
        # A replaced file has another inode, which distinguishes two writes within one clock tick.
        versions.append(f"{status.st_mtime_ns}:{status.st_size}:{status.st_ino}")
    of_steps = ",".join(sorted(versions[1:]))
    return f"{versions[0]}+{crc32(of_steps.encode()):x}" if of_steps else versions[0]
