"""Finds the files of an attempt: its script, its output, and the logs that may be its own.

Logs are those that its programs wrote, printed, or could have written. A script's text is no proof: it only helps to
find what the job's output names, in jobs in which nobody looked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import yaml

from evalmon_agent.collect.eval_logs import LogReader, NoTimeError
from evalmon_agent.errors import UsageError
from evalmon_agent.evidence.diagnosis.diagnose import UnopenedFile
from evalmon_agent.evidence.kinds import BY_NAME, KINDS
from evalmon_agent.evidence.kinds.kind import Kind, ObservedProgram
from evalmon_agent.evidence.owners import could_have_written, is_this, twin_of, writes_elsewhere
from evalmon_agent.evidence.result import UNREADABLE, EvalLog, TooLargeError
from evalmon_agent.experiment import scripts
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.permissions import why_not_writable
from evalmon_agent.files.trusted import OwnedFiles, read_at
from evalmon_agent.slurm.client import Slurm
from evalmon_agent.slurm.sbatch import output_path, read_head
from evalmon_agent.tracking.records import Attempt, Eval, Evidence
from evalmon_agent.words.job_id import JobId, task_of, whole_job

_LOGS_AT_MOST = 1000
_PRINTED_AT_MOST = 200
_LINES_OF_A_PATH = 12
_SETTINGS_BYTES = 256 * 1024
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


def text_of(path: str | None, *, files: OwnedFiles) -> str:
    """The end of a file of the owner as text, empty if there is none."""
    tail = None if path is None else files.read_tail(path)
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


def directories(script: str, environment: Mapping[str, str]) -> list[str]:
    """Where it changes to, as far as that is certain. `environment`: the job's variables."""
    code = _COMMENT.sub("", script)
    assigned = ((match[1], _WORD.match(code, match.end())) for match in _ASSIGNMENT.finditer(code))
    variables = {name: word[0] for name, word in assigned if word is not None}
    words: dict[str, None] = {}
    for match in _CHANGE_OF_DIRECTORY.finditer(code):
        word = _WORD.match(code, match.end())
        value = None if word is None else _expanded(word[0], variables, environment, depth=_DEPTH)
        if value:
            words[value] = None
    return list(words)[:_AT_MOST]


def _expanded(word: str, variables: Mapping[str, str], environment: Mapping[str, str], *, depth: int) -> str | None:
    """The word as the shell would give it; None where that is not certain."""
    if depth == 0 or "$(" in word or "`" in word or word.startswith("~"):
        return None
    parts: list[str] = []
    for literal, escaped, braced, default, bare, _, plain in _PIECE.findall(word):
        name = braced or bare
        value: str | None = plain or literal or escaped
        if name in variables:
            value = _expanded(variables[name], variables, environment, depth=depth - 1)
        elif name:
            value = environment.get(name)
        if value is None and default:
            value = _expanded(default, variables, environment, depth=depth - 1)
        if value is None or value == "$":
            return None
        parts.append(value)
    return "".join(parts)


def own_logs(reader: LogReader, attempt: Attempt, *, output: str, places: Iterable[str]) -> Evidence:
    """The logs of an attempt; those that were found before stay, also when their files are gone.

    Args:
        reader: reads them, within its budget of time.
        attempt: with the programs that were seen in its job.
        output: the end of what the job printed.
        places: directories, besides those of the programs, from which paths in the output may be seen.
    """
    programs = attempt.report.eval_programs if attempt.report is not None else []
    found = _OwnLogs(reader, attempt.evidence.logs if attempt.evidence is not None else [])
    try:
        for path in [*found.logs, *(written.path for program in programs for written in program.wrote if written.path)]:
            found.read(path)
        bases = dict.fromkeys([*(program.cwd for program in programs if program.cwd), *places])
        for path in dict.fromkeys(path for kind in KINDS for path in printed_paths(kind, output)):
            candidates = {os.path.normpath(os.path.join(base, path)) for base in bases or ("/",)}
            found.printed += [candidate for candidate in sorted(candidates) if found.read(candidate)]
        for program in [*programs, *_twins(attempt)]:
            found.read_directory_of(program)
    except NoTimeError as error:
        found.not_all_read = f"not all logs were read: {error}"
    return Evidence(
        logs=list(found.logs.values()),
        printed=found.printed,
        configured=found.configured,
        not_all_read=found.not_all_read,
    )


def printed_paths(kind: Kind, output: str) -> Iterator[str]:
    """The paths of logs that a program's own closing lines name; rich wraps them at the terminal's width."""
    matches = [] if kind.closing is None else list(kind.closing.finditer(output))
    for match in matches[-_PRINTED_AT_MOST:]:
        path = ""
        for line in output[match.end() :].split("\n", _LINES_OF_A_PATH)[:_LINES_OF_A_PATH]:
            path += line.strip()
            if kind.files.fullmatch(os.path.basename(path)):
                yield path.removeprefix("file://")
                break


def _twins(attempt: Attempt) -> list[ObservedProgram]:
    """What may have run on nodes where nobody looked."""
    report = attempt.report
    if report is None or report.witness is None or not report.witness.nodes_unseen:
        return []
    ended_at = report.ended_at if report.ended_at is not None else attempt.ended_at
    return [twin_of(program, report.started_at or program.started_at, ended_at) for program in report.eval_programs]


class _OwnLogs:
    """Logs by path, and what `Evidence` says of `printed`, `configured` and `not_all_read`."""

    def __init__(self, reader: LogReader, before: Iterable[EvalLog]) -> None:
        self._reader = reader
        self.logs = {log.path: log for log in before}
        self.printed: list[str] = []
        self.configured: dict[str, str] = {}
        self.not_all_read: str | None = None

    def read(self, path: str) -> bool:
        """Whether there is a log at this path, which is kept."""
        try:
            log = self._reader.read(path) if path.startswith("/") else None
        except TooLargeError as error:
            self.not_all_read = f"a log was not read: {error}"
            return True
        if log is not None:
            self._keep(log)
        return log is not None

    def _keep(self, log: EvalLog) -> None:
        """What was read once is not given up for what cannot be read."""
        if log.status != UNREADABLE or log.path not in self.logs:
            self.logs[log.path] = log

    def read_directory_of(self, program: ObservedProgram) -> None:
        """Keep the logs where a program writes, if it may be one of theirs that wrote them."""
        kind = BY_NAME.get(program.kind)
        if kind is None:
            return
        program = self._with_settings(kind, program)
        unnamed = [written for written in program.wrote if written.path is None]
        is_resuming = program.verb in kind.program.resuming_verbs
        if writes_elsewhere(program) and not unnamed and not is_resuming:
            return
        directory = kind.directory_of(program)
        if directory is None:
            return
        since = 0.0 if is_resuming else program.started_at
        listed = self._reader.logs(directory, is_nested=kind.is_nested, written_since=since)
        for path, log in listed.logs.items():
            may_be_its = could_have_written(program, log) or any(is_this(written, path) for written in unnamed)
            if not may_be_its and not (is_resuming and log.kind == kind.name and kind.agrees(program, log)):
                continue
            if len(self.logs) >= _LOGS_AT_MOST:
                self.not_all_read = f"more than {_LOGS_AT_MOST} logs may be its own"
                return
            if path in listed.too_large:
                self.not_all_read = f"a log was not read: {log.error}"
            else:
                self._keep(log)
        if listed.incomplete is not None:
            self.not_all_read = f"not all logs were read: {listed.incomplete}"

    def _with_settings(self, kind: Kind, program: ObservedProgram) -> ObservedProgram:
        """With the directory that its settings file names, which is noted."""
        path = kind.settings_of(program)
        if path is not None and kind.program.directory_option not in (program.options or {}):
            is_damaged = (OSError, yaml.YAMLError, RecursionError, ValueError)  # `2026-02-30`
            with suppress(*is_damaged), self._reader.files.open(path) as (descriptor, _):
                settings = yaml.safe_load(read_at(descriptor, 0, _SETTINGS_BYTES).decode())
                if isinstance(settings, dict):
                    self.configured[path] = str(settings.get(kind.program.directory_option) or "")
        return kind.configured(program, self.configured)
