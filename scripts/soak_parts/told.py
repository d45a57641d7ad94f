"""Reads what evalmon reported (its log and summary) without evalmon's own code."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEAD = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] ([A-Z_]+): (.*)")


@dataclass(frozen=True)
class Block:
    """One block of monitor.log; `kind` is empty for other text."""

    kind: str
    subject: str
    fields: dict[str, str]
    text: str


@dataclass(frozen=True)
class Told:
    """The files of one experiment."""

    blocks: tuple[Block, ...]
    summary: dict[str, Any]
    state: dict[str, Any]


def read(experiment: Path) -> Told:
    """The content; a missing or torn JSON file is empty."""
    ours = experiment / "evalmon"
    log = ours / "monitor.log"
    text = log.read_text() if log.exists() else ""
    return Told(tuple(parse(text)), _json(ours / "summary.json"), _json(ours / "state.json"))


def parse(text: str) -> list[Block]:
    """The blocks; other text between two blank lines counts as a block without a kind."""
    return [_block(chunk) for chunk in text.removesuffix("\n\n").split("\n\n")] if text else []


def _block(chunk: str) -> Block:
    head, *lines = chunk.split("\n")
    match = _HEAD.fullmatch(head)
    if match is None:
        return Block("", "", {}, chunk)
    return Block(match[1], match[2], dict(line.split(": ", 1) for line in lines if ": " in line), chunk)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
