"""inspect-ai: `.eval` archives and `.json` logs, which it also grows while an eval runs. Pure.

Facts from inspect-ai 0.3.285. It exits 0 although the eval ended in an error: only the log tells.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace

from evalmon_agent.evidence.eval_log import STARTED, EvalLog, UnreadableLogError
from evalmon_agent.evidence.inspect_log import completed_samples, interpret
from evalmon_agent.evidence.kinds.kind import Kind, LogFile
from evalmon_agent.words.eval_programs import INSPECT

_ARCHIVE = ".eval"
_HEADER, _START, _SUMMARIES = _MEMBERS = ("header.json", "_journal/start.json", "summaries.json")


def _read(file: LogFile) -> EvalLog | None:
    if not file.name.endswith(_ARCHIVE):
        # In a `.json` log the samples come last: its beginning says it all.
        return interpret(file.text())
    header = file.member(_HEADER) or file.member(_START)
    log = interpret(header, sample_count=file.sample_count) if header else None
    if log is None or log.samples_completed is not None or log.status == STARTED:
        return log
    del header
    with suppress(UnreadableLogError):
        if summaries := file.member(_SUMMARIES):
            return replace(log, samples_completed=completed_samples(summaries))
    return log


INSPECT_AI = Kind(
    name=INSPECT.kind,
    runs=re.compile(r"\binspect\s+(?:eval|eval-set|eval-retry)\b|\binspect_ai\b"),
    programs=frozenset(INSPECT.names),
    log_dir=re.compile(r"--log-dir[= ]\s*|\bINSPECT_LOG_DIR="),
    folders=("logs", "."),
    files=re.compile(r"[^.].*\.(?:eval|json)"),
    begin=re.compile(rb'\s*\{\s*"(?:version|status|eval)"\s*:'),
    archive=_ARCHIVE,
    members=frozenset(_MEMBERS),
    read=_read,
)
