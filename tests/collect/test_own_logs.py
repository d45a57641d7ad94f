"""Tests that the logs that may be an attempt's are looked for only where its programs and its output say."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from collect.test_evidence import inspect_log
from evalmon_agent.collect.attempt_files import own_logs, printed_paths
from evalmon_agent.collect.eval_archive import MEMBER_LIMIT_BYTES
from evalmon_agent.collect.eval_logs import LogReader
from evalmon_agent.evidence.kinds.inspect_ai import INSPECT_AI
from evalmon_agent.evidence.kinds.kind import ObservedProgram, Written
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.tracking.records import Attempt, Evidence, JobReport, Witness
from zips import Member, zip_of

NOW = time.time()
LM_EVAL = json.loads((Path(__file__).parents[1] / "evidence" / "lm_eval" / "limited.json").read_text())


def program(directory: Path, **more: object) -> ObservedProgram:
    told = {"kind": "inspect-ai", "options": {}, "words": ("t.py",), "cwd": str(directory), **more}
    return ObservedProgram(started_at=NOW - 60, **told)  # type: ignore[arg-type]


def found_of(
    *programs: ObservedProgram, output: str = "", before: Evidence | None = None, places: str = ""
) -> Evidence:
    attempt = Attempt(report=JobReport(0, eval_programs=list(programs)), evidence=before)
    reader = LogReader(OwnedFiles(os.geteuid()), budget_s=20)
    return own_logs(reader, attempt, output=output, places=[places] if places else [])


def paths(found: Evidence) -> list[str]:
    return [log.path for log in found.logs]


def log(path: Path, *, at: float = NOW - 30) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(inspect_log(at=at))
    return str(path)


def test_a_programs_log_is_found_anywhere_and_its_neighbours_are_not_read(tmp_path: Path) -> None:
    path = log(tmp_path / "away" / "a.eval")
    log(tmp_path / "away" / "b.eval")
    log(tmp_path / "logs" / "c.eval")
    seen = program(tmp_path, wrote=(Written(name="a.eval", path=path, known_by=("line",)),))
    assert paths(found_of(seen)) == [path]


def test_neighbouring_logs_are_read_if_a_node_had_no_witness(tmp_path: Path) -> None:
    path, other = (log(tmp_path / "logs" / f"{name}.eval") for name in "ab")
    seen = program(tmp_path, wrote=(Written(name="a.eval", path=path, known_by=("line",)),))
    for nodes_unseen, logs in ((0, {path}), (1, {path, other})):
        witness = Witness("cgroup", nodes_unseen=nodes_unseen)
        attempt = Attempt(report=JobReport(0, started_at=NOW - 70, eval_programs=[seen], witness=witness))
        reader = LogReader(OwnedFiles(os.geteuid()), budget_s=20)
        assert set(paths(own_logs(reader, attempt, output="", places=()))) == logs


def test_without_a_known_log_those_of_its_time_in_its_directory_are_read(tmp_path: Path) -> None:
    path = log(tmp_path / "logs" / "c.eval")
    log(tmp_path / "logs" / "old.eval", at=NOW - 900)
    log(tmp_path / "b.eval")
    assert paths(found_of(program(tmp_path))) == [path]
    assert found_of().logs == []
    torn = tmp_path / "logs" / "torn.eval"
    torn.write_bytes(b"PK")
    assert {one.path: one.status for one in found_of(program(tmp_path)).logs}[str(torn)] == "unreadable"


@pytest.mark.parametrize("is_seen", [True, False], ids=["seen", "at its place"])
def test_a_too_large_log_is_not_read_and_that_is_reported(tmp_path: Path, is_seen: bool) -> None:
    path = log(tmp_path / "logs" / "a.eval")
    Path(path).write_bytes(zip_of([Member("header.json", claimed_size_bytes=MEMBER_LIMIT_BYTES + 1)]))
    seen = (Written(name="a.eval", path=path, known_by=("line",)),) if is_seen else ()
    found = found_of(program(tmp_path, wrote=seen))
    assert (found.logs, found.not_all_read) == ([], "a log was not read: header.json is larger than 192 MiB")
    os.utime(path, (NOW - 900, NOW - 900))
    assert is_seen or found_of(program(tmp_path)) == Evidence()


def test_a_log_known_by_its_directorys_digest_is_found_in_the_programs_directory(tmp_path: Path) -> None:
    path = log(tmp_path / "logs" / "a.eval", at=NOW - 900)
    digest = hashlib.sha256(f"file://{tmp_path}/logs".encode()).hexdigest()
    held = Written(name="a.eval", directory_sha256=digest, known_by=("name",))
    assert paths(found_of(program(tmp_path, wrote=(held,)))) == [path]


@pytest.mark.parametrize("text", ["Log: {}", "Log:\n{}", "Log:   \n{:40.40}\n{:.0}{}", "│ x │\nLog: file://{}  \nmore"])
def test_the_wrapped_last_line_is_joined(tmp_path: Path, text: str) -> None:
    path = log(tmp_path / "logs" / "a.eval")
    if "40.40" in text:
        text = f"Log:   \n{path[:40]}\n{path[40:]}   \n"
    found = found_of(output=f"begin\n{text.format(path)}\nend\n")
    assert (paths(found), found.printed) == ([path], [path])


def test_other_lines_name_no_log(tmp_path: Path) -> None:
    path = log(tmp_path / "logs" / "a.eval")
    for output in (path, f"$ ls logs\n{path}\n", f"INFO Log: {path}", f"Logs: {path}", "Log: s3://b/a.eval\n"):
        assert found_of(output=output, places=str(tmp_path)).logs == []
    assert list(printed_paths(INSPECT_AI, "Log: \n\n\n")) == []


def test_a_relative_path_is_resolved_from_the_jobs_directory(tmp_path: Path) -> None:
    path = log(tmp_path / "logs" / "a.eval")
    assert found_of(output="Log: logs/a.eval\n", places=str(tmp_path)).printed == [path]
    assert found_of(output="Log: logs/a.eval\n", places=str(tmp_path / "away")).printed == []


def test_a_known_log_is_kept_when_its_file_is_gone_and_read_again_when_it_changed(tmp_path: Path) -> None:
    path = log(tmp_path / "logs" / "a.eval")
    first = found_of(program(tmp_path))
    before = Evidence(logs=first.logs)
    Path(path).write_bytes(inspect_log(at=NOW - 30, status="error"))
    assert found_of(program(tmp_path), before=before).logs[0].status == "error"
    Path(path).write_bytes(b"PK torn")
    assert found_of(program(tmp_path), before=before).logs == first.logs
    os.unlink(path)
    assert found_of(program(tmp_path), before=before).logs == first.logs


@pytest.mark.parametrize(
    ("text", "named"), [("output_path: out\n", "out"), ("model: hf\n", ""), ("[", None), ("seen: 2026-02-30\n", None)]
)
def test_the_directory_may_be_named_in_a_settings_file(tmp_path: Path, text: str, named: str | None) -> None:
    (tmp_path / "c.yaml").write_text(text)
    results = tmp_path / "out" / "m" / "results_2026-11-25T17-58-37.243692.json"
    results.parent.mkdir(parents=True)
    results.write_text(json.dumps({**LM_EVAL, "date": NOW - 30}))
    told = {"kind": "lm-evaluation-harness", "words": (), "options": {"config": ("c.yaml",)}}
    found = found_of(replace(program(tmp_path), **told))
    assert found.configured == ({} if named is None else {f"{tmp_path}/c.yaml": named})
    assert paths(found) == ([str(results)] if named else [])
