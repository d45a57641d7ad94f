"""Tests that the shipped JSON Schemas match the code, and refuse what its files never hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from docs_schemas import schemas
from evalmon_agent.tracking.registry import Accepted
from evalmon_agent.words.job_id import JobId
from schema_check import DIRECTORY, problems
from summary.summarised import mixed


def test_the_schemas_match_the_code() -> None:
    """`scripts/docs` writes them."""
    assert {path.name: path.read_text() for path in DIRECTORY.iterdir()} == schemas()


@pytest.mark.parametrize("text", schemas().values(), ids=schemas())
def test_each_is_a_valid_schema_with_descriptions(text: str) -> None:
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    records = [record for record in schema["$defs"].values() if "properties" in record]
    assert all(record.get("description") for record in records)
    assert not any(name.startswith("_") for name in schema["$defs"])


def broken(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The document with each of its members wrong in turn: of another type, or missing."""
    names = document.keys() - {"schema"}
    of_another_type = [{**document, name: True} for name in names]
    return of_another_type + [{key: document[key] for key in document if key != name} for name in names]


@pytest.mark.forges_files
def test_evalmons_own_documents_are_accepted_and_wrong_ones_refused(tmp_path: Path) -> None:
    state = json.loads(msgspec.json.encode(mixed().state))
    (tmp_path / "evalmon" / "jobs").mkdir(parents=True)
    file = tmp_path / "evalmon" / "state.json"
    file.write_text(json.dumps(state))
    assert problems(tmp_path) == []
    for document in broken(state):
        file.write_text(json.dumps(document))
        assert len(problems(tmp_path)) == 1
    file.write_text(json.dumps({**state, "schema": 2}))
    assert problems(tmp_path) == []  # of another evalmon


@pytest.mark.forges_files
def test_each_line_of_the_registry_is_checked(tmp_path: Path) -> None:
    (tmp_path / "study" / "evalmon").mkdir(parents=True)
    file = tmp_path / "study" / "evalmon" / "registry.jsonl"
    line = msgspec.json.encode(Accepted("0" * 16, JobId("7"), 1.0)) + b"\n"
    file.write_bytes(line + b'{"torn": ')
    assert problems(tmp_path) == []
    file.write_bytes(line + line.replace(b'"at":1.0', b'"at":"then"'))
    [problem] = problems(tmp_path)
    assert "registry.jsonl" in problem
