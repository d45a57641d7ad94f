"""What did an attempt leave behind: its GPU metrics and its eval's log, read once, bounded, not under the lock."""

from __future__ import annotations

import os
import re

from evalmon_agent.evidence import attempt_log
from evalmon_agent.evidence.inspect_result import to_result
from evalmon_agent.evidence.result import UNREADABLE, EvalResult
from evalmon_agent.files.eval_logs import read_logs
from evalmon_agent.files.tail import read_tail
from evalmon_agent.programs.gpu_evidence import gpu_figures
from evalmon_agent.slurm.output_pattern import output_path
from evalmon_agent.slurm.script import read_head
from evalmon_agent.store.experiment import Experiment
from evalmon_agent.submission.launcher import SNAPSHOT
from evalmon_agent.tracking.path import Incarnation, incarnations
from evalmon_agent.tracking.records import Eval, Evidence
from evalmon_agent.tracking.wanted import Unmeasured
from evalmon_agent.words.job_id import parse_job_id

_RUNS_INSPECT = re.compile(r"\binspect\s+(?:eval|eval-set|eval-retry)\b|\binspect_ai\b")
_SCRIPT_BYTES = 1024 * 1024
_OWN_CLOCK_SLACK_S = 5.0
_SLURM_CLOCK_SLACK_S = 60.0


def collect(experiment: Experiment, ev: Eval, owed: Unmeasured) -> Evidence:
    """The evidence of one ended attempt; what cannot be read is not there."""
    wanted = (owed.submitted_at, owed.restart)
    known = incarnations(ev, owed.job_id)
    one = next((one for one in known if (one.attempt.submitted_at, one.attempt.restart) == wanted), None)
    if one is None:
        return Evidence()
    script = _script(experiment, ev, owed.job_id)
    log = _output(script, ev, owed.job_id)
    span = _span(ev, one, output=_text(log))
    return Evidence(
        gpu=gpu_figures(ev.output_dir, span, one.own),
        result=_result(ev, span),
        expects_log=bool(_RUNS_INSPECT.search(script)),
        log=log,
    )


def _script(experiment: Experiment, ev: Eval, job_id: str) -> str:
    """The text of what was submitted; of an adopted job, of its script unless that was changed since."""
    job = next((job for job in ev.jobs if job.job_id == job_id), None)
    if job is None or ev.script is None:
        return ""
    token = job.token
    if token is None:
        is_unchanged = job.submitted_at is not None and _changed_at(ev.script) <= job.submitted_at + 1
        return _text(ev.script, limit_bytes=_SCRIPT_BYTES) if is_unchanged else ""
    path = os.path.join(experiment.scripts, token, *SNAPSHOT)
    return _text(path, limit_bytes=_SCRIPT_BYTES)


def _output(script: str, ev: Eval, job_id: str) -> str | None:
    """Where Slurm put the job's output, seen from its script; of an adopted job only if it is there."""
    parsed = parse_job_id(job_id)
    if ev.script is None or parsed is None:
        return None
    options = read_head(script).options
    name = options.get("job-name") or os.path.basename(ev.script)
    folder = os.path.dirname(ev.script)
    if any(job.token is not None for job in ev.jobs if job.job_id == job_id):
        return output_path(options, parsed, raw_id=None, name=name, folder=folder)
    # Whoever submitted it may have done so from elsewhere, with other options.
    options = {key: value for key, value in options.items() if key != "chdir"}
    path = output_path(options, parsed, raw_id=None, name=name, folder=ev.output_dir or folder)
    return path if path is not None and os.path.isfile(path) else None


def _span(ev: Eval, one: Incarnation, *, output: str) -> attempt_log.Attempt | None:
    """When the attempt ran: by its node's clock, which also dated its files, else by Slurm's."""
    attempt, own = one.attempt, one.own
    mine = own is not None and own.started_at is not None
    started_at = own.started_at if own is not None and mine else attempt.started_at
    if started_at is None:
        return None
    ended_at = own.ended_at if own is not None and own.ended_at is not None else attempt.ended_at
    parts = ev.name.split("/")
    return attempt_log.Attempt(
        started_at,
        ended_at,
        slack_s=_OWN_CLOCK_SLACK_S if mine else _SLURM_CLOCK_SLACK_S,
        task=parts[-2] if len(parts) > 2 else parts[-1],
        output=output,
    )


def _result(ev: Eval, span: attempt_log.Attempt | None) -> EvalResult | None:
    folders = [os.path.dirname(ev.script)] if ev.script else []
    folders += [ev.output_dir] if ev.output_dir else []
    if not folders or span is None:
        return None
    places = dict.fromkeys(place for folder in folders for place in (os.path.join(folder, "logs"), folder))
    found = read_logs(places, written_since=span.started_at)
    path = attempt_log.pick(found.logs, span)
    if path is not None:
        return to_result(found.logs[path], path=path)
    # A log that is there but cannot be read is not a missing one.
    return next((EvalResult(status=UNREADABLE, error=why, log=at) for at, why in found.unreadable.items()), None)


def _changed_at(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return float("inf")


def _text(path: str | None, *, limit_bytes: int = 64 * 1024) -> str:
    found = None if path is None else read_tail(path, limit_bytes=limit_bytes)
    return "" if found is None else found.decode(errors="replace")
