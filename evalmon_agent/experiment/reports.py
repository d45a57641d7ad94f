"""Reads the jobs' own reports in jobs/; only files that changed are opened."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

import msgspec

from evalmon_agent.agent.sampling.job_gpus import NO_GPU
from evalmon_agent.evidence.kinds.kind import ObservedProgram
from evalmon_agent.files.trusted import read_at
from evalmon_agent.tracking.facts import SelfReport
from evalmon_agent.tracking.records import JobReport, Witness
from evalmon_agent.words.job_id import parse_job_id

SCHEMA = 1
MAX_BYTES = 4 * 1024 * 1024
MAX_RESTARTS = 10_000
_PROGRAMS_AT_MOST = 500
_FIRST_LOOK_S = 2.0
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class _Command(msgspec.Struct):
    witness: Witness | None = None
    elapsed_s: float | None = None
    exit_code: int | None = None
    signal: int | None = None


class _Sampler(msgspec.Struct, frozen=True):
    interval_ms: int = 0
    no_gpu_file: str | None = None


class _Attempt(msgspec.Struct):
    restart: int = 0
    host: str | None = None
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
    programs: list[ObservedProgram] = []
    programs_left_out: int = 0
    sampler: _Sampler = _Sampler()


class _Report(msgspec.Struct):
    schema: int
    job_id: str
    name: str | None = None
    job_name: str | None = None
    attempts: list[_Attempt] = []


_decoder = msgspec.json.Decoder(_Report)


def changed(directory: str, known: Mapping[str, str]) -> Iterator[SelfReport]:
    """The reports whose version is not the known one.

    One scandir; a file that is not a regular file of ours, or too large, or that does not parse, or of another
    schema, is passed over and looked at again next time: one job's report must not stop the others'.
    """
    try:
        listing = os.scandir(directory)
    except FileNotFoundError:
        return
    with listing:
        for entry in listing:
            known_version = known.get(entry.name)
            if known_version is None and not _is_report(entry.name):
                continue
            report = _read(entry, known_version)
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


def _read(entry: os.DirEntry[str], known_version: str | None) -> SelfReport | None:
    try:
        if known_version is not None and _version(entry.stat(follow_symlinks=False)) == known_version:
            return None
        fd = os.open(entry.path, _FLAGS)
    except OSError:
        return None
    try:
        status = os.fstat(fd)
        ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
        if not ours or status.st_size > MAX_BYTES:
            return None
        data = read_at(fd, 0, status.st_size)
    except OSError:
        return None
    finally:
        os.close(fd)
    return _parse(entry.name, _version(status), data)


def _parse(source: str, version: str, data: bytes) -> SelfReport | None:
    try:
        report = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    job_id = parse_job_id(report.job_id)
    if report.schema != SCHEMA or f"{report.job_id}.json" != source or job_id is None:
        return None
    if not all(0 <= attempt.restart <= MAX_RESTARTS for attempt in report.attempts):
        return None
    output_dir = next((a.output_dir for a in reversed(report.attempts) if a.output_dir), None)
    attempts = [_attempt_report(attempt) for attempt in report.attempts]
    tokens = frozenset(attempt.token for attempt in report.attempts if attempt.token)
    return SelfReport(source, version, job_id, report.name, output_dir, attempts, tokens, report.job_name)


def _attempt_report(attempt: _Attempt) -> JobReport:
    whole = attempt.scope == "job"
    last = attempt.commands[-1] if attempt.commands and not whole else attempt
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
        eval_programs=attempt.programs[:_PROGRAMS_AT_MOST],
        witness=_witness(attempt),
        sample_interval_s=attempt.sampler.interval_ms / 1000 or None,
        has_no_gpu=(attempt.sampler.no_gpu_file or "").startswith(NO_GPU),
    )


def _witness(attempt: _Attempt) -> Witness | None:
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
    left_out = max(0, len(attempt.programs) - _PROGRAMS_AT_MOST) + attempt.programs_left_out
    return Witness(
        by=max((witness.by for witness in looked if witness.by), key=lambda by: by != "cgroup"),
        since=min((witness.since for witness in looked if witness.since is not None), default=None),
        until=max((witness.until for witness in looked if witness.until is not None), default=None),
        left_out=left_out + sum(witness.left_out for witness in looked),
        trouble=next((witness.trouble for witness in looked if witness.trouble), None),
    )


def _version(status: os.stat_result) -> str:
    # A replaced file has another inode, which distinguishes two writes within one clock tick.
    return f"{status.st_mtime_ns}:{status.st_size}:{status.st_ino}"
