"""Tests that `status` of an attacker's experiment takes bounded memory and time and prints a table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from evalmon_agent.cli import status_view
from evalmon_agent.cli.status_view import Choice, status_text
from evalmon_agent.experiment import state as state_file
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.settings import Settings
from evalmon_agent.summary.build import build
from evalmon_agent.summary.markdown import render
from summary.summarised import mixed

LOAD = """
import re, sys, time
from evalmon_agent.errors import UnreadableError
from evalmon_agent.experiment import state
from evalmon_agent.experiment.experiment import Experiment
experiment, began = Experiment.at(sys.argv[1]), time.process_time()
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
before_kib = peak()
try:
    said = len(state.load_foreign(experiment).evals)
except UnreadableError as error:
    said = error
print(peak() - before_kib, time.process_time() - began, said, sep="|")
"""


def taken(root: Path) -> tuple[float, float, str]:
    """MiB and seconds that reading took, and the outcome."""
    done = subprocess.run([sys.executable, "-c", LOAD, root], capture_output=True, text=True, check=True, timeout=120)
    kib, seconds, said = done.stdout.strip().split("|")
    return int(kib) / 1024, float(seconds), said


def many(what: str, of: bytes, size_bytes: int) -> bytes:
    return b'{"experiment":"x","%s":{"a":[%s]}}' % (what.encode(), b",".join([of] * (size_bytes // (len(of) + 1))))


def evals(count: int, *, padded: int = 0) -> bytes:
    one = '"%d":{"name":"a","job_id":"1","script":"' + "x" * padded + '"}'
    return b'{"experiment":"x","evals":{%s}}' % ",".join(one % number for number in range(count)).encode()


ATTEMPTS = (
    b'{"experiment":"x","evals":{"a":{"name":"","job_id":"","jobs":[{"job_id":"","registered_at":0,"attempts":[%s]}]}}}'
)
TOO_LARGE = "state.json: holds more than its evals can need; it was not read"
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "80 MB of unknown members": (lambda: many("more", b'{"b":1.5}', 80_000_000), TOO_LARGE),
    "80 MB in one unknown text": (lambda: many("more", b'"%s"' % (b"x" * 80_000_000), 90_000_000), TOO_LARGE),
    "very many attempts": (lambda: ATTEMPTS % b",".join([b'{"restart":0}'] * 1_900_000), TOO_LARGE),
    "too many attempts": (lambda: ATTEMPTS % b",".join([b'{"restart":0}'] * 6_000_000), TOO_LARGE),
    "very many evals": (lambda: evals(300_000), TOO_LARGE),
    "deep nesting": (lambda: b'{"experiment":"x","more":' + b"[" * 50_000_000, "NoneType"),
    "as much as evals may need": (lambda: evals(15_000, padded=9_000), "15000"),
    "more than evals may need": (lambda: evals(15_000, padded=11_000), TOO_LARGE),
}


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[] if "80 MB" in what else pytest.mark.full) for what in HOSTILE]
)
def test_another_users_state_takes_bounded_memory_and_time(tmp_path: Path, what: str) -> None:
    content, expected = HOSTILE[what]
    ours = tmp_path / "evalmon"
    ours.mkdir()
    if expected == "NoneType":
        (ours / "state.json").write_bytes(content())
        assert state_file.load_foreign(Experiment.at(str(tmp_path))) is None
        return
    (ours / "state.json").write_bytes(content())
    mib, seconds, said = taken(tmp_path)
    assert said.endswith(expected)
    assert (mib < 800, seconds < 10) == (True, True), (mib, seconds)


def test_a_state_above_200_mb_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "evalmon").mkdir()
    with (tmp_path / "evalmon" / "state.json").open("wb") as file:
        file.truncate(201 * 1024 * 1024)
    assert state_file.load_foreign(Experiment.at(str(tmp_path))) is None


def absurd(value: Any, number: float, text: str) -> Any:
    """The same with every number and free text replaced, except scores, which may be any number."""
    if isinstance(value, dict):
        kept = {
            "schema",
            "state",
            "queue_state",
            "account_state",
            "logged",
            "suspensions",
            "status",
            "cause",
            "source",
            "scores",
            "created",
        }
        return {key: one if key in kept else absurd(one, number, text) for key, one in value.items()}
    if isinstance(value, list):
        return [absurd(one, number, text) for one in value]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float):
        return number
    if isinstance(value, int):
        return int(number) if abs(number) < 2**62 else 2**62
    return text


@pytest.fixture
def texts() -> Callable[[str], list[str]]:
    """The text that people see of a state."""

    def shown(data: str) -> list[str]:
        state = state_file._decoder.decode(data)
        summary = build(state, now=time.time(), settings=Settings(lost_after=60.0))
        return [click.unstyle(status_text(summary, None, Choice(), now=time.time(), size=None)), render(summary)]

    return shown


@pytest.mark.parametrize("number", [1e308, -1e308, -1.0, 0.0, 1e18])
def test_absurd_numbers_keep_the_table_intact(texts: Callable[[str], list[str]], number: float) -> None:
    state = json.loads(msgspec.json.encode(mixed().state))
    for shown in texts(json.dumps(absurd(state, number, "a"))):
        assert max(len(cell) for cell in re.split(r"[|\n]|  +", shown)) < 300
        assert not re.search(r"\d{17}|e\+|nan|inf\b|(?<!\d)-\d", shown)


def test_texts_of_a_state_are_made_printable(texts: Callable[[str], list[str]]) -> None:
    state = json.loads(msgspec.json.encode(mixed().state))
    for shown in texts(json.dumps(absurd(state, 1.0, "[red]\x1b[31m\x07\n"))):
        assert "\x1b" not in shown
        assert "\x07" not in shown


def test_a_table_of_very_many_evals_is_limited(
    texts: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_view, "_ROWS_AT_MOST", 5)
    table, _ = texts(msgspec.json.encode(mixed().state).decode())
    assert "more; --json shows every eval)" in table
