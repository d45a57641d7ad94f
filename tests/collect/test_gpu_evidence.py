"""Tests how an attempt's figures follow from its nodes' CSVs: its own rows, and the expected number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evalmon_agent.collect.attempt_files import AttemptSpan
from evalmon_agent.collect.collect import read_gpu_figures
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.tracking.records import JobReport
from evidence.gpu_texts import BEGIN_UNIX_S, OUR_HEADER, our_tick


def ran(start_s: float = 0, end_s: float | None = 60) -> AttemptSpan:
    return AttemptSpan(BEGIN_UNIX_S + start_s, None if end_s is None else BEGIN_UNIX_S + end_s)


def reported(interval_s: float | None = 30.0, end_s: float | None = 60.5) -> JobReport:
    return JobReport(
        0,
        started_at=BEGIN_UNIX_S,
        ended_at=None if end_s is None else BEGIN_UNIX_S + end_s,
        sample_interval_s=interval_s,
    )


def write(directory: Path, name: str, *ticks: str) -> None:
    (directory / name).write_text(OUR_HEADER + "".join(ticks))


def test_the_files_of_a_jobs_nodes_are_combined_and_others_left_out(tmp_path: Path) -> None:
    write(tmp_path, "gpu_metrics.csv", our_tick(0, 10), our_tick(30, 10))
    write(tmp_path, "gpu_metrics.n2.csv", our_tick(0, 30), our_tick(30, 30))
    write(tmp_path, "gpu_metrics.csv.1", our_tick(0, 99))
    (tmp_path / "host_metrics.csv").write_text("x")
    found = read_gpu_figures(OwnedFiles(os.geteuid()), str(tmp_path), ran(), reported())
    assert found is not None
    assert (found.count, found.samples, found.utilization_mean_pct, found.samples_expected) == (2, 2, 20, 3)


def test_only_the_attempts_own_rows_count(tmp_path: Path) -> None:
    write(tmp_path, "gpu_metrics.csv", our_tick(0, 10), our_tick(30, 10), OUR_HEADER, our_tick(600, 90))
    found = read_gpu_figures(OwnedFiles(os.geteuid()), str(tmp_path), ran(595, 700), reported())
    assert found is not None
    assert (found.samples, found.utilization_mean_pct) == (1, 90)


@pytest.mark.parametrize("who", [None, reported(interval_s=None), reported(end_s=None)])
def test_without_the_jobs_report_the_expected_number_is_unknown(tmp_path: Path, who: JobReport | None) -> None:
    write(tmp_path, "gpu_metrics.csv", our_tick(0, 10), our_tick(30, 10))
    found = read_gpu_figures(OwnedFiles(os.geteuid()), str(tmp_path), ran(), who)
    assert found is not None
    assert (found.samples, found.samples_expected) == (2, None)


def test_without_a_directory_a_file_or_a_time_there_are_no_figures(tmp_path: Path) -> None:
    assert read_gpu_figures(OwnedFiles(os.geteuid()), str(tmp_path / "gone"), ran(), reported()) is None
    assert read_gpu_figures(OwnedFiles(os.geteuid()), str(tmp_path), ran(), reported()) is None
    assert read_gpu_figures(OwnedFiles(os.geteuid()), None, ran(), reported()) is None
    write(tmp_path, "gpu_metrics.csv", our_tick(0, 10))
    assert read_gpu_figures(OwnedFiles(os.geteuid()), str(tmp_path), None, reported()) is None
