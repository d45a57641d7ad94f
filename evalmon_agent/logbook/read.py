"""Reads the blocks of monitor.log back, so that nothing is logged twice after a lost state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from evalmon_agent.logbook.blocks import BlockKind
from evalmon_agent.words.job_id import JobId, parse_job_id
from evalmon_agent.words.states import State

_HEAD = re.compile(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] (?P<kind>[A-Z_]+): (?P<subject>.*)")


@dataclass(frozen=True, slots=True)
class Block:
    """One block: its kind, its subject as printed, and its `Key: value` lines.

    `kind` is None where another version of evalmon wrote one that this one does not know.
    """

    kind: BlockKind | None
    subject: str
    fields: dict[str, str]

    @property
    def job_id(self) -> JobId | None:
        """The job that it is about, None if it names none."""
        return parse_job_id(self.fields.get("Job ID", ""))


def blocks(text: str) -> Iterator[Block]:
    """The whole blocks of a log; a torn last one, without its blank line, is left out."""
    for chunk in text.split("\n\n")[:-1]:
        head, *lines = chunk.strip("\n").split("\n")
        match = _HEAD.fullmatch(head)
        if match is not None:
            pairs = (line.partition(": ") for line in lines)
            fields = {key: value for key, colon, value in pairs if colon}
            yield Block(BlockKind.__members__.get(match["kind"]), match["subject"], fields)


def transition(block: Block) -> tuple[JobId, State] | None:
    """(job id, current state) of a STATE_CHANGE."""
    if block.kind is not BlockKind.STATE_CHANGE or block.job_id is None:
        return None
    current = block.fields.get("Current", "")
    return (block.job_id, State(current)) if current in State.__members__ else None
