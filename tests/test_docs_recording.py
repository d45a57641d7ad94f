"""Tests the recorded run of scripts/demo (docs/demo.svg), and how scripts/docs_recording.py draws a recording."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

RECORDING = Path(__file__).resolve().parents[1] / "docs" / "demo.svg"
SVG = "{http://www.w3.org/2000/svg}"


def test_the_recording_is_small_and_shows_the_whole_demo() -> None:
    assert RECORDING.stat().st_size < 300_000
    lines = {"".join(row.itertext()).strip() for row in ET.parse(RECORDING).iter(f"{SVG}g") if row.get("id") != "film"}
    assert {"$ scripts/demo --dir /tmp/demo", "Monitoring is complete", "What to try next"} <= lines
    assert "All 8 evaluations ended as the demo meant them to." in lines


def test_the_recording_has_no_path_of_the_machine_it_was_made_on() -> None:
    text = " ".join(ET.parse(RECORDING).getroot().itertext())
    paths = re.findall(r"(?<![\w./~*])/[a-z][\w.-]*/[\w./-]*", text)
    assert paths
    assert [path for path in paths if not path.startswith(("/tmp/", "/home/me/evalmon/"))] == []


def test_each_screen_is_shown_until_it_changes_and_no_pause_is_long() -> None:
    recording = pytest.importorskip("docs_recording", reason="needs the dependency group docs")
    events = [(0.0, "one\r\n"), (0.5, "two\r\n"), (60.0, "\x1b[1A\x1b[2K<3>")]
    head = {"version": 2, "width": 10, "height": 8}
    cast = "\n".join(json.dumps(item) for item in [head, *([at, "o", data] for at, data in events)])
    film = recording.film_of(cast)
    screens = [([re.sub("<.*?>", "", row) for row in rows[:2]], seconds) for rows, seconds in film.frames]
    assert screens == [(["one", ""], 0.5), (["one", "two"], 1.5), (["one", "&lt;3&gt;"], 8.0)]
    picture = ET.fromstring(recording.svg(film))
    assert len(picture.findall(f".//{SVG}use")) == 5
