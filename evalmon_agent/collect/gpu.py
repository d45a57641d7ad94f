"""What did an attempt's GPUs do: its CSVs, one for each node, read once, bounded, not under the lock."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from evalmon_agent.evidence import attempt_log
from evalmon_agent.evidence.gpu_csv import parse
from evalmon_agent.evidence.gpu_figures import GpuFigures, between, figures
from evalmon_agent.evidence.gpu_use import Span
from evalmon_agent.files.owned import OwnedFiles
from evalmon_agent.tracking.records import JobReport

_CSV = re.compile(r"gpu_metrics(?:\.[^/]+)?\.csv")
_CSV_BYTES = 16 * 1024 * 1024


def gpu_figures(
    files: OwnedFiles, output_dir: str | None, ran: attempt_log.Attempt | None, report: JobReport | None
) -> GpuFigures | None:
    """The figures of the rows that the attempt wrote; None if there are none, or its time is not known.

    How many samples there should be follows from the job's own report alone: Slurm's clock is another, and it does not
    know the interval.
    """
    if output_dir is None or ran is None:
        return None
    with suppress(OSError):
        with files.scan(output_dir) as entries:
            names = sorted(entry.name for entry in entries if _CSV.fullmatch(entry.name))
        texts = [files.read_tail(os.path.join(output_dir, name), limit_bytes=_CSV_BYTES) for name in names]
        tables = [parse(text) for text in texts if text is not None]
        start, end = ran.started_at - ran.slack_s, (ran.ended_at or float("inf")) + ran.slack_s
        own_tables = [between(table, start_unix_s=start, end_unix_s=end) for table in tables]
        span = Span() if report is None else Span(report.started_at, report.ended_at, report.sample_interval_s)
        return figures(*own_tables, span=span)
    return None
