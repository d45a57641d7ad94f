"""Checks the files of experiments below a directory against the JSON Schemas that ship with evalmon."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jsonschema

import evalmon_agent

DIRECTORY = Path(evalmon_agent.__file__).parent / "schemas"
_EVALS_AT_MOST = 20
"""Of a file with more, so many are checked: all are written alike."""
_BYTES_AT_MOST = 4_000_000


def problems(root: Path) -> list[str]:
    """The problems in the files of the experiments at `root` and in its directories.

    Files that this version of evalmon did not write are left out: those that are not JSON, or have another `schema`.
    """
    found = []
    for directory in (root / "evalmon", *root.glob("*/evalmon")):
        for kind, path in _files(directory):
            for document in _documents(path):
                problem = next(_validator(kind).iter_errors(document), None)
                found += [] if problem is None else [f"{path}: {problem.json_path}: {problem.message[:300]}"]
    return found


def _files(directory: Path) -> Iterator[tuple[str, Path]]:
    for kind, pattern in (
        ("summary", "summary.json"),
        ("state", "state.json"),
        ("registry", "registry.jsonl"),
        ("job", "jobs/*.json"),
    ):
        for path in list(directory.glob(pattern))[:_EVALS_AT_MOST]:
            yield kind, path


def _documents(path: Path) -> Iterator[dict[str, Any]]:
    with suppress(OSError, ValueError, RecursionError):
        if not path.is_file() or path.is_symlink() or path.stat().st_size > _BYTES_AT_MOST:
            return
        text = path.read_text()
        for part in text.splitlines()[-_EVALS_AT_MOST:] if path.suffix == ".jsonl" else [text]:
            with suppress(ValueError):
                document = json.loads(part)
                if isinstance(document, dict) and document.get("schema", 1) == 1:
                    yield _few_evals(document)


def _few_evals(document: dict[str, Any]) -> dict[str, Any]:
    evals = document.get("evals")
    if isinstance(evals, list):
        return {**document, "evals": evals[:_EVALS_AT_MOST]}
    return {**document, "evals": dict(list(evals.items())[:_EVALS_AT_MOST])} if isinstance(evals, dict) else document


@functools.cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json.loads((DIRECTORY / f"{kind}.schema.json").read_text()))
