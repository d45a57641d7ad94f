"""Tests that the plots keep peaks and gaps, and use only the eval's own files."""

from __future__ import annotations

import json
import os
import random
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from evalmon_agent.evidence.gpu_csv import parse
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.report_page.draw import downsampled, memory_pct, read_samples, score_spec, specs, use_spec
from evalmon_agent.summary.records import EvalSummary
from evalmon_agent.summary.scores import score_table
from evalmon_agent.words.csv_columns import GpuColumn
from report_page.studies import gpu_line, study, summary_of, write_samples


def test_peaks_and_troughs_of_an_hour_are_kept_in_about_sixty_buckets() -> None:
    samples = [(float(at), 50.0) for at in range(3600)]
    samples[1234], samples[2345] = (1234.0, 100.0), (2345.0, 0.0)
    buckets = downsampled(samples)
    assert 55 <= len(buckets) <= 65
    assert max(high for *_, high in buckets) == 100
    assert min(low for _, low, _, _ in buckets) == 0
    assert sum(mean for _, _, mean, _ in buckets) / len(buckets) == pytest.approx(50, abs=1)


def test_jitter_makes_no_gap_and_missing_samples_do() -> None:
    shaky = random.Random(1)
    samples = [(30 * n + shaky.uniform(-3, 3) + 3, 50.0) for n in range(120) if not 50 <= n < 60]
    starts = [start for start, *_ in downsampled(samples)]
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert len([gap for gap in gaps if gap > 1.5 * min(gaps)]) == 1
    points = use_spec(downsampled(samples), end_s=3600)["data"]["values"]
    assert [point["mean"] for point in points].count(None) == 2  # the gap, and the end


def test_few_samples_and_none_are_drawn() -> None:
    assert downsampled([]) == []
    assert len(downsampled([(0.0, 7.0)])) == 1
    assert use_spec(downsampled([(0.0, 7.0)]), end_s=None)["layer"]


def eval_with(tmp_path: Path, *lines: bytes, name: str = "gpu_metrics.csv") -> EvalSummary:
    [ev] = study(1, str(tmp_path), failing=0).evals
    assert ev.output_dir is not None
    Path(ev.output_dir).mkdir(parents=True)
    Path(ev.output_dir, name).write_bytes(GpuColumn.first_line() + b"".join(lines))
    return ev


def percents(ev: EvalSummary) -> list[tuple[float, float | None, float | None]]:
    files = OwnedFiles(os.geteuid())
    return [(round(at), row.utilization_pct, memory_pct(row)) for at, row in read_samples(files, ev)]


def started(ev: EvalSummary) -> datetime:
    assert ev.started is not None
    return datetime.fromisoformat(ev.started)


def line(at: datetime, load: float | None = 50, used: int | None = 40960) -> bytes:
    return gpu_line(at, 0, load_pct=load, used_mib=used)


def test_missing_values_are_not_samples_and_not_0(tmp_path: Path) -> None:
    [ev] = study(1, str(tmp_path), failing=0).evals
    at = started(ev)
    ev = eval_with(tmp_path, line(at, None, None), line(at + timedelta(seconds=30)))
    assert percents(ev) == [(0, None, None), (30, 50, 50)]
    kinds = {kind: spec["data"]["values"] for kind, _, spec in specs(summary_of([ev]), OwnedFiles(os.geteuid()))}
    assert {min(point["low"] for point in kinds[kind] if point["low"] is not None) for kind in kinds} == {50}


def test_rows_of_an_earlier_attempt_in_the_same_file_are_not_drawn(tmp_path: Path) -> None:
    [ev] = study(1, str(tmp_path), failing=0).evals
    at = started(ev)
    ev = eval_with(tmp_path, line(at - timedelta(hours=2)), line(at), line(at + timedelta(hours=2)))
    assert percents(ev) == [(0, 50, 50)]


def test_each_node_of_an_eval_has_a_file_and_no_file_of_another_name_is_read(tmp_path: Path) -> None:
    [ev] = study(1, str(tmp_path), failing=0).evals
    at = started(ev)
    ev = eval_with(tmp_path, line(at), name="gpu_metrics.n2.csv")
    Path(str(ev.output_dir), "other.csv").write_bytes(GpuColumn.first_line() + line(at))
    assert percents(ev) == [(0, 50, 50)]


def test_links_and_other_kinds_of_files_do_no_harm(tmp_path: Path) -> None:
    ev = eval_with(tmp_path)
    assert percents(ev) == []
    Path(str(ev.output_dir), "gpu_metrics.csv").unlink()
    os.mkfifo(Path(str(ev.output_dir), "gpu_metrics.csv"))
    assert percents(ev) == []


def test_no_text_of_an_eval_is_in_a_plot(tmp_path: Path) -> None:
    summary = study(12, str(tmp_path))
    for ev in summary.evals:
        write_samples(ev)
    drawn = list(specs(summary, OwnedFiles(os.geteuid())))
    assert {kind for kind, *_ in drawn} == {"score", "utilization", "memory"}
    words = {word for ev in summary.evals for word in (*ev.name.split("/"), "match", "accuracy")}
    text = "".join(json.dumps(spec) for *_, spec in drawn)
    assert not [word for word in words if word in text.replace("data", "")]


def test_the_axis_of_a_score_is_shared_by_all_runs_of_a_task_and_includes_the_errors() -> None:
    table = score_table(study(24).evals)
    rows = [row for row in table.rows if row.task == "capitalization"]
    assert len(rows) == 2
    ranges = {table.range_of(row) for row in rows}
    assert len(ranges) == 1
    [(low, high)] = ranges
    for row in rows:
        points = score_spec(row, low=low, high=high)["data"]["values"]
        assert all(low <= point["low"] < point["v"] < point["high"] <= high for point in points)


def test_memory_is_a_share_of_the_gpus_own() -> None:
    at = datetime.fromisoformat("2026-11-26T09:00:00+00:00")
    rows = parse(GpuColumn.first_line() + line(at, used=40960) + line(at, used=None) + line(at, used=90000)).rows
    assert [memory_pct(row) for row in rows] == [50, None, 100]
