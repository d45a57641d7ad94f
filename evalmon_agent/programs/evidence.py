"""What did an attempt leave behind: its GPU metrics, its eval's log, why it failed. Read once, bounded, unlocked."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from evalmon_agent.evidence import attempt_log
from evalmon_agent.evidence.diagnosis.diagnose import diagnose
from evalmon_agent.evidence.gpu_csv import parse
from evalmon_agent.evidence.gpu_figures import GpuFigures, between, figures
from evalmon_agent.evidence.kinds.known import expects_log
from evalmon_agent.files.eval_logs import LogReader
from evalmon_agent.files.tail import read_tail
from evalmon_agent.programs.traces import outputs_of, result_of, script_of, span_of, text_of
from evalmon_agent.store.experiment import Experiment
from evalmon_agent.tracking.case import case_of
from evalmon_agent.tracking.path import attempts_of, own_of
from evalmon_agent.tracking.records import Eval, Evidence
from evalmon_agent.tracking.wanted import Unmeasured

_CSV = re.compile(r"gpu_metrics(?:\.[^/]+)?\.csv")
_CSV_BYTES = 16 * 1024 * 1024


def collect(experiment: Experiment, ev: Eval, owed: Unmeasured) -> Evidence:
    """The evidence of one ended attempt; what cannot be read is not there."""
    found = [(n, a) for n, (_, a) in enumerate(attempts_of(ev, owed.job_id)) if a.submitted_at == owed.submitted_at]
    if not found:
        return Evidence()
    number, attempt = found[0]
    script = script_of(experiment, ev, owed.job_id)
    outputs = outputs_of(script, ev, owed.job_id)
    own = own_of(ev, owed.job_id, number)
    output = text_of(outputs.output)
    span = span_of(ev, attempt, number, output=output)
    result = result_of(LogReader(), ev, script, span, job_id=owed.job_id)
    expected = expects_log(script, own.programs if own is not None else ())
    printed = f"{output}\n{text_of(outputs.errors)}"
    return Evidence(
        gpu=_gpu(ev.output_dir, span),
        result=result,
        expects_log=expected,
        log=outputs.output,
        diagnosis=diagnose(case_of(attempt, own, printed=printed, result=result, expects_log=expected)),
    )


def _gpu(output_dir: str | None, span: attempt_log.Attempt | None) -> GpuFigures | None:
    if output_dir is None or span is None:
        return None
    with suppress(OSError):
        names = sorted(name for name in os.listdir(output_dir) if _CSV.fullmatch(name))
        texts = [read_tail(os.path.join(output_dir, name), limit_bytes=_CSV_BYTES) for name in names]
        tables = [parse(text) for text in texts if text is not None]
        start, end = span.started_at - span.slack_s, (span.ended_at or float("inf")) + span.slack_s
        return figures(*(between(table, start_unix_s=start, end_unix_s=end) for table in tables))
    return None
