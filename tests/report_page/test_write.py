"""Tests that report.html is written with plots drawn in another process, and without them if that fails."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from evalmon_agent.report_page.page import write_page
from report_page.pages import Page
from report_page.studies import on_disk, save, study

WRITE = """
import os, resource, sys
{before}
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.report_page.page import write_page
from evalmon_agent.summary.records import Summary
import msgspec
experiment = Experiment.at(sys.argv[1])
summary = msgspec.json.decode(open(experiment.summary_json, 'rb').read(), type=Summary)
print(write_page(experiment, summary, environ=os.environ, mode=0o600))
print('vl_convert' in sys.modules, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def written(root: Path, before: str = "") -> tuple[str, str, str]:
    """The note, the last line, and the page of a process that runs this code before it writes."""
    command = [sys.executable, "-c", WRITE.format(before=before), str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    note, _, last = done.stdout.rstrip("\n").rpartition("\n")
    return note, last, (root / "evalmon/report.html").read_text()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    experiment, _ = on_disk(tmp_path_factory.mktemp("drawn"), 12)
    return Path(experiment.root)


def test_the_plots_are_drawn_in_another_process_within_limits_and_use_the_texts_colour(root: Path) -> None:
    note, last, html = written(root)
    loaded, child_mib = last.split()
    assert (note, loaded) == ("None", "False")
    assert int(child_mib) < 300
    page = Page(html)
    assert len([value for value in page.attributes("class") if value.startswith("plot ")]) == 4 + 12 + 12
    assert html.count("currentColor") > 28
    assert 'stroke="black"' not in html
    assert page.count("text") == 0
    assert len(html) < 400_000
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))


def test_without_the_extra_the_page_has_its_tables_and_says_what_to_install(root: Path) -> None:
    note, _, html = written(root, "sys.modules['vl_convert'] = None")
    assert "without its extra `report`" in note
    assert "pip install vl-convert-python" in note
    page = Page(html)
    assert note in page.text
    assert "Needs attention" in page.text
    assert "61% / 97% / 100%" in page.text
    assert "plot utilization" not in html


def test_with_little_memory_the_page_has_its_tables_and_the_writer_survives(root: Path) -> None:
    note, _, html = written(root, "resource.setrlimit(resource.RLIMIT_DATA, (300 << 20, 300 << 20))")
    assert note.startswith("Some plots are missing: the process that draws them ended with status ")
    assert "Some plots are missing" in Page(html).text
    assert "61% / 97% / 100%" in Page(html).text


def test_plots_drawn_before_a_kill_are_shown(tmp_path: Path, root: Path) -> None:
    """An interpreter that is killed after its second plot."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n{sys.executable} "$@" | head -n 2\nprintf \'["memory", "x", "<sv\'\nkill -9 $$\n')
    python.chmod(0o755)
    note, _, html = written(root, f"sys.executable = {str(python)!r}")
    assert "ended with status -9" in note
    assert html.count('class="plot ') == 2


@pytest.mark.parametrize("harm", ["moved", "summary"])
def test_another_directory_in_its_place_is_not_drawn(tmp_path: Path, harm: str) -> None:
    experiment, summary = on_disk(tmp_path, 2)
    assert experiment.id is not None
    there = Path(experiment.directory)
    harms: dict[str, Callable[[], object]] = {
        "moved": lambda: (there.rename(tmp_path / "away"), there.mkdir(0o700)),
        "summary": lambda: (there / "summary.json").write_text("{"),
    }
    harms[harm]()
    note = write_page(experiment, summary, environ=os.environ, mode=0o600)
    assert note is not None
    assert note.startswith("Some plots are missing")
    assert "Traceback" not in note
    place = tmp_path / "away" if harm == "moved" else there
    assert [harm == "moved"] == [not (there / "report.html").exists()]
    assert "GPUs over time" in (place / "report.html").read_text()


def test_without_anything_to_draw_no_process_is_started(tmp_path: Path) -> None:
    experiment, _ = on_disk(tmp_path, 1)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert write_page(experiment, study(0), environ={}, mode=0o640) is None
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime == before
    page = Path(experiment.report_html)
    assert page.stat().st_mode & 0o777 == 0o640
    assert "No evals yet" in page.read_text()
    save(experiment, study(0))


def test_a_planted_file_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    experiment, _ = on_disk(tmp_path, 1)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    Path(experiment.report_html).symlink_to(victim)
    write_page(experiment, study(0), environ={}, mode=0o600)
    assert victim.read_text() == "precious"
    assert Path(experiment.report_html).read_text().startswith("<!DOCTYPE html>")
