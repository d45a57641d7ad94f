"""Tests that logs of the real inspect-ai, with the demo's mock model, are read as inspect-ai reads them."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evalmon_agent.collect.attempt_files import own_logs, printed_paths
from evalmon_agent.collect.eval_logs import FoundLogs, LogReader, read_log
from evalmon_agent.evidence.kinds.inspect_ai import INSPECT_AI
from evalmon_agent.evidence.kinds.kind import ObservedProgram
from evalmon_agent.evidence.result import UNREADABLE, EvalLog
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.tracking.records import Attempt, JobReport
from zips import Member, zip_of

TASKS = Path(__file__).parents[2] / "scripts" / "demo_files" / "tasks.py"
INSPECT = Path(sys.executable).parent / "inspect"

real = pytest.mark.skipif(
    importlib.util.find_spec("inspect_ai") is None or not INSPECT.exists(), reason="inspect-ai is not installed"
)

FILES = OwnedFiles(os.geteuid())


def read_logs(directory: Path, *, written_since: float, budget_s: float = 2.0) -> FoundLogs:
    return LogReader(FILES, budget_s=budget_s).logs(str(directory), written_since=written_since)


READ_BY_INSPECT = """
import json, sys
from inspect_ai.log import read_eval_log
for path in sys.argv[1:]:
    log = read_eval_log(path, header_only=True)
    results = log.results
    print(json.dumps({
        "status": log.status,
        "created": log.eval.created,
        "task": log.eval.task,
        "completed": results.completed_samples if results else None,
        "total": results.total_samples if results else None,
        "scores": {f"{s.name}/{m}": v.value for s in results.scores for m, v in s.metrics.items()} if results else {},
        "error": log.error.message if log.error else None,
    }))
"""


class Runs:
    """One directory per run, all at once: most of their time goes into importing inspect-ai."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        adapter = directory / "epoch_0"
        adapter.mkdir()
        (adapter / "adapter.json").write_text('{"accuracy": 0.8}')
        self._adapter = adapter
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.statuses: dict[str, int] = {}

    def start(self, name: str, *options: str, task: str = "arithmetic") -> subprocess.Popen[bytes]:
        home = self.directory / f"home-{name}"
        home.mkdir()
        argv = [str(INSPECT), "eval", f"{TASKS}@{task}", "-T", f"adapter={self._adapter}", *options]
        argv += ["--log-dir", str(self.directory / name)]
        with (self.directory / f"{name}.out").open("wb") as output:
            self._running[name] = subprocess.Popen(
                argv,
                env={"PATH": os.environ["PATH"], "HOME": str(home)},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return self._running[name]

    def wait(self) -> None:
        self.statuses = {name: process.wait(timeout=120) for name, process in self._running.items()}

    def path(self, name: str) -> str:
        [path] = [entry.path for entry in os.scandir(self.directory / name)]
        return path

    def log(self, name: str) -> EvalLog:
        log = read_log(self.path(name), FILES)
        assert log is not None
        return log


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    found = Runs(tmp_path_factory.mktemp("inspect"))
    killed = found.start("killed", "-T", "pace_s=0.5", "--max-samples", "1")
    found.start("success", "-T", "pace_s=0")
    found.start("error", "-T", "pace_s=0", "-T", "crash_at=4", "--max-samples", "1")
    found.start("unfinished", "-T", "pace_s=0", "-T", "crash_at=4", "--no-fail-on-error", "--limit", "6")
    found.start("json", "-T", "pace_s=0", "--log-format", "json", "--epochs", "2", task="capitalization")
    kill_after_a_sample(killed, found.directory / "killed")
    found.wait()
    return found


def kill_after_a_sample(process: subprocess.Popen[bytes], directory: Path) -> None:
    deadline = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < deadline:
        for log in read_logs(directory, written_since=0).logs.values():
            if log.samples_completed:
                process.send_signal(signal.SIGKILL)
                return
        time.sleep(0.1)
    pytest.fail("no sample was flushed")


@real
def test_inspect_exits_with_0_unless_killed(runs: Runs) -> None:
    assert runs.statuses == {"killed": -signal.SIGKILL, "success": 0, "error": 0, "unfinished": 0, "json": 0}


@real
def test_a_successful_log_has_samples_and_scores(runs: Runs) -> None:
    log = runs.log("success")
    assert (log.status, log.task, log.error) == ("success", "arithmetic", None)
    assert (log.samples_completed, log.samples_total) == (12, 12)
    assert set(log.scores) == {"match/accuracy", "match/stderr"}


@real
def test_an_error_is_found_although_the_exit_status_was_0(runs: Runs) -> None:
    log = runs.log("error")
    assert (log.status, log.samples_completed, log.samples_total) == ("error", 3, 12)
    assert log.error == "RuntimeError('CUDA error: an illegal memory access was encountered (simulated by the demo)')"


@real
def test_a_killed_evals_log_is_started_and_has_its_progress(runs: Runs) -> None:
    log = runs.log("killed")
    assert (log.status, log.samples_total, log.scores, log.error) == ("started", 12, {}, None)
    assert 0 < (log.samples_completed or 0) < 12


@real
def test_a_success_with_a_failed_sample_is_unfinished(runs: Runs) -> None:
    log = runs.log("unfinished")
    assert (log.status, log.samples_completed, log.samples_total) == ("success", 5, 6)


@real
def test_a_json_log_is_read(runs: Runs) -> None:
    log = runs.log("json")
    assert (log.status, log.task, log.samples_completed, log.samples_total) == (
        "success",
        "capitalization",
        24,
        24,
    )


@real
def test_the_values_equal_those_that_inspect_reads(runs: Runs) -> None:
    names = ["success", "error", "killed", "unfinished", "json"]
    answer = subprocess.run(
        [sys.executable, "-c", READ_BY_INSPECT, *map(runs.path, names)], capture_output=True, check=True, text=True
    )
    for name, line in zip(names, answer.stdout.splitlines(), strict=True):
        theirs: dict[str, Any] = json.loads(line)
        log = runs.log(name)
        assert log.created is not None
        assert (log.status, log.created.isoformat(), log.task) == (
            theirs["status"],
            theirs["created"],
            theirs["task"],
        )
        assert (dict(log.scores), log.error) == (theirs["scores"], theirs["error"])
        if theirs["total"] is not None:
            assert (log.samples_completed, log.samples_total) == (theirs["completed"], theirs["total"])


@real
def test_the_log_named_in_inspects_wrapped_output_is_found(runs: Runs) -> None:
    for name in ("success", "error", "json"):
        output = (runs.directory / f"{name}.out").read_text()
        assert runs.path(name) not in output
        [path] = printed_paths(INSPECT_AI, f"{output}\n$ ls logs\n/x/logs/other.eval\n")
        assert str(runs.directory / path) == runs.path(name)


@real
def test_reading_takes_milliseconds_and_does_not_import_inspect(runs: Runs) -> None:
    code = (
        "import os, sys, time; from evalmon_agent.collect.eval_logs import LogReader;"
        "from evalmon_agent.files.trusted import OwnedFiles; began = time.monotonic();"
        "found = LogReader(OwnedFiles(os.geteuid())).logs(sys.argv[1], written_since=0);"
        "took_s = time.monotonic() - began;"
        "assert len(found.logs) == 1 and took_s < 0.5, took_s;"
        "heavy = {'inspect_ai', 'yaml', 'click', 'pydantic'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code, str(runs.directory / "success")], check=True)


HEADER = b'{"status": "success", "eval": {"task": "t", "created": "2026-01-01T00:00:00+00:00"}, "stats": {}}'


def write(path: Path, data: bytes, *, modified_at: float) -> None:
    path.write_bytes(data)
    os.utime(path, (modified_at, modified_at))


def test_other_files_are_left_out_and_broken_logs_are_reported(tmp_path: Path) -> None:
    good = zip_of([Member("header.json", HEADER)])
    (tmp_path / "good.eval").write_bytes(good)
    (tmp_path / "torn.eval").write_bytes(good[:-5])
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "list.json").write_text('[{"status": "success", "eval": {}, "stats": {}}]')
    (tmp_path / "good.json").write_bytes(HEADER)
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "link.eval").symlink_to(tmp_path / "good.eval")
    os.mkfifo(tmp_path / "fifo.eval")
    (tmp_path / "directory.eval").mkdir()
    statuses = {Path(path).name: log.status for path, log in read_logs(tmp_path, written_since=0).logs.items()}
    assert statuses == {"good.eval": "success", "good.json": "success", "torn.eval": UNREADABLE}
    assert read_logs(tmp_path / "missing", written_since=0) == read_logs(Path("\0"), written_since=0) == FoundLogs()


def test_older_logs_are_not_read(tmp_path: Path) -> None:
    now = time.time()
    write(tmp_path / "old.json", HEADER, modified_at=now - 7200)
    write(tmp_path / "new.json", HEADER, modified_at=now - 60)
    assert {Path(path).name for path in read_logs(tmp_path, written_since=now).logs} == {"new.json"}


def test_all_of_very_many_files_are_read(tmp_path: Path) -> None:
    for number in range(300):
        write(tmp_path / f"{number:03}.json", HEADER, modified_at=1e9 + number)
    found = read_logs(tmp_path, written_since=0, budget_s=60)
    assert [Path(path).name for path in found.logs] == [f"{number:03}.json" for number in range(299, -1, -1)]
    assert found.incomplete is None


def test_without_time_left_nothing_is_read_and_that_is_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.json", HEADER, modified_at=time.time())
    found = read_logs(tmp_path, written_since=0, budget_s=0)
    assert found.logs == {}
    assert found.incomplete == "no time left after 0 names"


def test_an_incomplete_reading_is_reported(tmp_path: Path) -> None:
    now = time.time()
    write(tmp_path / "a.json", HEADER, modified_at=now)
    seen = ObservedProgram(kind="inspect-ai", started_at=0.0, cwd=str(tmp_path), options={"log-dir": (".",)})
    attempt = Attempt(report=JobReport(0, eval_programs=[seen]))
    reader = LogReader(FILES)
    assert [log.path for log in own_logs(reader, attempt, output="", places=[]).logs] == [f"{tmp_path}/a.json"]
    reader.renew(budget_s=0)
    found = own_logs(reader, attempt, output="", places=[])
    assert (found.logs, found.not_all_read) == ([], "not all logs were read: no time left after 0 names")


def test_a_directory_with_too_many_names_is_reported(tmp_path: Path) -> None:
    for number in range(1001):
        (tmp_path / str(number)).mkdir()
    found = LogReader(FILES, budget_s=60).logs(str(tmp_path), is_nested=True, written_since=0)
    assert found.incomplete == f"too many directories below {tmp_path}"


def test_failed_and_limited_samples_of_a_json_log_are_counted(tmp_path: Path) -> None:
    header = HEADER.replace(b"success", b"error")[:-1]
    samples = b', "samples": [{"id": 1}, {"id": 2, "error": {"message": "x"}}, {"id": 3, "limit": {"type": "token"}}]}'
    (tmp_path / "a.json").write_bytes(header + samples)
    [log] = read_logs(tmp_path, written_since=0).logs.values()
    assert (log.status, log.samples_completed, log.samples_failed, log.samples_limited) == ("error", 2, 1, 1)


def test_a_file_is_read_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    write(tmp_path / "a.json", HEADER, modified_at=time.time())
    reader = LogReader(FILES)
    assert len(reader.logs(str(tmp_path), written_since=0).logs) == 1
    reader.renew(budget_s=0)
    assert reader.is_out_of_time
    reader.renew(budget_s=2)
    write(tmp_path / "a.json", HEADER.replace(b"success", b"cancelled"), modified_at=time.time() + 1)
    [log] = reader.logs(str(tmp_path), written_since=0).logs.values()
    assert log.status == "cancelled"
