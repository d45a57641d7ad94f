"""Finds the files of an attempt: its script, its output, where its logs may lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from evalmon_agent.errors import UsageError
from evalmon_agent.evidence.diagnosis.diagnose import UnopenedFile
from evalmon_agent.experiment import scripts
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.permissions import why_not_writable
from evalmon_agent.files.trusted import OwnedFiles, read_at
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.sbatch import output_path, read_head
from evalmon_agent.tracking.records import Attempt, Eval
from evalmon_agent.words.job_id import JobId, task_of, whole_job

_SCRIPT_BYTES = 1024 * 1024
_OWN_CLOCK_SLACK_S = 5.0
_SLURM_CLOCK_SLACK_S = 60.0
# Of a script's text.
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_WORD = re.compile(r"""(?:"[^"\n]*"|'[^'\n]*'|\\[^\n]|[^\s"'`;&|<>()\\])+""")
_ASSIGNMENT = re.compile(r"^\s*(?:export\s+|readonly\s+|local\s+)?([A-Za-z_]\w*)=", re.MULTILINE | re.ASCII)
_PIECE = re.compile(r"""'([^']*)'|\\(.)|\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)|(["])|([^'"\\$]+|\$)""", re.DOTALL)
_CHANGE_OF_DIRECTORY = re.compile(r"^\s*cd\s+(?:--\s+)?", re.MULTILINE)
_DEPTH = 5
_AT_MOST = 20
_SAME_EVERYWHERE = ("HOME", "USER", "SCRATCH", "WORK")


@dataclass(frozen=True, slots=True)
class AttemptSpan:
    """When an attempt ran, in epoch seconds; `slack_s`: how far that clock may be off from that of the node."""

    started_at: float
    ended_at: float | None = None
    slack_s: float = _OWN_CLOCK_SLACK_S


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where Slurm put the job's output; `errors` is None if it is the same file, both if unknown."""

    output: str | None = None
    errors: str | None = None


def script_of(experiment: Experiment, ev: Eval, job_id: JobId, *, files: OwnedFiles) -> str:
    """The text of what was submitted; of an adopted job its own script unless that was changed since. Else empty."""
    job = next((job for job in ev.jobs if job.job_id == job_id), None)
    if job is None or ev.script is None:
        return ""
    if job.token is None:
        attempts_submitted_at = (attempt.submitted_at for attempt in job.attempts)
        submitted_at = min((at for at in (job.submitted_at, *attempts_submitted_at) if at is not None), default=None)
        return "" if submitted_at is None else _unchanged_since(submitted_at + 1, ev.script, files)
    try:
        submitted = scripts.read_script(experiment, job.token, ev.script)
    except (OSError, UsageError):
        return ""
    return (submitted or b"")[:_SCRIPT_BYTES].decode(errors="replace")


def _unchanged_since(at: float, path: str, files: OwnedFiles) -> str:
    """The text of a script that was not changed after a time; else empty."""
    with suppress(OSError), files.open(path) as (descriptor, _):
        if os.fstat(descriptor).st_mtime <= at:
            return read_at(descriptor, 0, _SCRIPT_BYTES).decode(errors="replace")
    return ""


def outputs_of(script: str, ev: Eval, job_id: JobId, *, files: OwnedFiles) -> Outputs:
    """By Slurm's word of when the job was adopted, else by the script's #SBATCH lines; only files that exist."""
    job = next((job for job in ev.jobs if job.job_id == job_id), None)
    if job is not None and job.output is not None:
        outputs = _filled_in(job.output, job.errors, job_id, files)
        if outputs.output is not None:
            return outputs
    if ev.script is None:
        return Outputs()
    options = read_head(script).options
    name = options.get("job-name") or os.path.basename(ev.script)
    folder = os.path.dirname(ev.script)
    of_streams = [options, {**options, "output": options["error"]}] if "error" in options else [options]
    if all(job.token is None for job in ev.jobs if job.job_id == job_id):
        paths = [_there(of_stream, job_id, name, [ev.output_dir or folder, folder], files) for of_stream in of_streams]
    else:
        paths = [output_path(of_stream, job_id, name=name, folder=folder) for of_stream in of_streams]
    return Outputs(*paths)


def outputs_by_slurm(slurm: Slurm, job_id: JobId, attempt: Attempt, *, files: OwnedFiles) -> Outputs:
    """What is there of what Slurm names, as long as it knows the job."""
    for found in slurm.details(job_id):
        if found.job_id == job_id and found.output is not None and found.submitted_at == attempt.submitted_at:
            return _filled_in(found.output, found.errors, job_id, files)
    return Outputs()


def _filled_in(output: str, errors: str | None, job_id: JobId, files: OwnedFiles) -> Outputs:
    patterns = [output] if errors in {None, output} else [output, str(errors)]
    paths = [output_path({"output": pattern}, job_id, name="", folder="/") for pattern in patterns]
    return Outputs(*(path if path is not None and _is_there(path, files) else None for path in paths))


def _there(
    options: Mapping[str, str], job_id: JobId, name: str, folders: Sequence[str], files: OwnedFiles
) -> str | None:
    """Files of an adopted job that exist: it may have been submitted from elsewhere, with other options.

    Beside the first of the folders only a file with the job's id in its name is certainly its own.
    """
    options = {key: value for key, value in options.items() if key != "chdir"}
    paths = [output_path(options, job_id, name=name, folder=folder) for folder in folders]
    own = [path for path in paths if path and (path == paths[0] or whole_job(job_id) in os.path.basename(path))]
    return next((path for path in own if _is_there(path, files)), None)


def _is_there(path: str, files: OwnedFiles) -> bool:
    try:
        with files.open(path):
            return True
    except OSError:
        return False


def unopened_file(outputs: Outputs, slurm: Slurm, job_id: JobId) -> UnopenedFile:
    """The file that Slurm could not open to start a job: by the script's options, else by asking Slurm."""
    written = [path for path in (outputs.output, outputs.errors) if path is not None]
    return _unwritable(written) or _unopened_by_slurm(slurm, job_id) or UnopenedFile(path=_directory(written))


def _unopened_by_slurm(slurm: Slurm, job_id: JobId) -> UnopenedFile | None:
    jobs = slurm.details(job_id)
    written = [path for job in jobs for path in (job.output, job.errors) if path is not None and "%" not in path]
    read = next((job.input for job in jobs if job.input is not None), os.devnull)
    if unwritable := _unwritable(written):
        return unwritable
    if not os.access(read, os.R_OK):
        return UnopenedFile("input", read, "cannot be read here")
    return UnopenedFile(path=_directory(written)) if written else None


def _unwritable(paths: list[str]) -> UnopenedFile | None:
    problems = ((path, why_not_writable(path)) for path in paths)
    return next((UnopenedFile("output", os.path.dirname(path), problem) for path, problem in problems if problem), None)


def _directory(paths: list[str]) -> str | None:
    return os.path.dirname(paths[0]) if paths else None


def span_of(attempt: Attempt) -> AttemptSpan | None:
    """When the attempt ran: by its node's clock, which also dated its files, else by Slurm's."""
    report = attempt.report
    mine = report is not None and report.started_at is not None
    started_at = report.started_at if report is not None and mine else attempt.started_at
    if started_at is None:
        return None
    ended_at = report.ended_at if report is not None and report.ended_at is not None else attempt.ended_at
    return AttemptSpan(started_at, ended_at, slack_s=_OWN_CLOCK_SLACK_S if mine else _SLURM_CLOCK_SLACK_S)


def log_places(ev: Eval, script: str, job_id: JobId) -> list[str]:
    """From where a job may have seen its logs, as far as its script and its submission tell."""
    folder = os.path.dirname(ev.script) if ev.script else None
    roots = [root for root in (folder, ev.output_dir) if root]
    return [*roots, *(os.path.join(folder or "", place) for place in directories(script, _variables(job_id, folder)))]


def text_of(path: str | None, *, files: OwnedFiles, limit_bytes: int = 64 * 1024) -> str:
    """The end of a file of the owner as text, empty if there is none."""
    tail = None if path is None else files.read_tail(path, limit_bytes=limit_bytes)
    return "" if tail is None else tail.decode(errors="replace")


def _variables(job_id: JobId, folder: str | None) -> Mapping[str, str]:
    """Variables whose values in the job are known here."""
    variables = {name: os.environ[name] for name in _SAME_EVERYWHERE if name in os.environ}
    if folder:
        variables["SLURM_SUBMIT_DIR"] = folder
    number, task = whole_job(job_id), task_of(job_id)
    if task is None:
        return variables | {"SLURM_JOB_ID": number, "SLURM_JOBID": number}
    return variables | {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(task)}


def words_behind(pattern: re.Pattern[str], script: str, environment: Mapping[str, str]) -> list[str]:
    """The certain words that stand right behind `pattern`. `environment`: the job's variables."""
    code = _COMMENT.sub("", script)
    variables = dict(_assigned(code))
    words: dict[str, None] = {}
    for match in pattern.finditer(code):
        word = _WORD.match(code, match.end())
        value = None if word is None else _expanded(word[0], variables, environment, depth=_DEPTH)
        if value:
            words[value] = None
    return list(words)[:_AT_MOST]


def directories(script: str, environment: Mapping[str, str]) -> list[str]:
    """Where it changes to."""
    return words_behind(_CHANGE_OF_DIRECTORY, script, environment)


def _assigned(code: str) -> Iterator[tuple[str, str]]:
    for match in _ASSIGNMENT.finditer(code):
        word = _WORD.match(code, match.end())
        if word is not None:
            yield match[1], word[0]


def _expanded(word: str, variables: Mapping[str, str], environment: Mapping[str, str], *, depth: int) -> str | None:
    """The word as the shell would give it; None where that is not certain."""
    if depth == 0 or "$(" in word or "`" in word or word.startswith("~"):
        return None
    parts: list[str] = []
    for literal, escaped, braced, default, bare, _, plain in _PIECE.findall(word):
        name = braced or bare
        value: str | None = plain or literal or escaped
        if name:
            value = _value(name, variables, environment, depth=depth)
            if value is None and default:
                value = _expanded(default, variables, environment, depth=depth - 1)
        if value is None or value == "$":
            return None
        parts.append(value)
    return "".join(parts)


def _value(name: str, variables: Mapping[str, str], environment: Mapping[str, str], *, depth: int) -> str | None:
    if name in variables:
        return _expanded(variables[name], variables, environment, depth=depth - 1)
    return environment.get(name)
