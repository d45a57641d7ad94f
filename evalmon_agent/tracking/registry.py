"""What does the registry say: its records, and what follows from them. Pure.

Before each sbatch an intent with a token is on record, after it an acceptance or a refusal; the token travels
in the path of the submitted script, so a killed submitter is resolved by looking for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from msgspec import Struct

from evalmon_agent.tracking.facts import Registration
from evalmon_agent.words.eval_names import task_name

SCHEMA = 1
What = Literal["eval", "completion", "sidecar"]


class Intent(Struct, tag="intent", tag_field="kind", omit_defaults=True, frozen=True):
    """About to call sbatch for this. `tasks`: the array's task ids; None for a job that is no array."""

    token: str
    what: What
    at: float
    host: str
    pid: int
    name: str | None = None
    script: str | None = None
    output_dir: str | None = None
    tasks: list[int] | None = None
    schema: int = SCHEMA


class Accepted(Struct, tag="accepted", tag_field="kind", omit_defaults=True, frozen=True):
    """Slurm took it: the id of its job (of an array: the array's), and the cluster if sbatch named one."""

    token: str
    job_id: str
    at: float
    cluster: str | None = None
    schema: int = SCHEMA


class Refused(Struct, tag="refused", tag_field="kind", omit_defaults=True, frozen=True):
    """Slurm did not take it, with its own words."""

    token: str
    error: str
    at: float
    schema: int = SCHEMA


class Abandoned(Struct, tag="abandoned", tag_field="kind", omit_defaults=True, frozen=True):
    """The submitter died, and the job was looked for and is not there."""

    token: str
    at: float
    schema: int = SCHEMA


class Adopted(Struct, tag="adopted", tag_field="kind", omit_defaults=True, frozen=True):
    """A job that somebody else submitted is an eval from now on.

    Nothing of ours is in it, so no token tells it from an earlier bearer of its id: `submitted_at` does, its Submit.
    `tasks`: of an array all of whose tasks were adopted. Partition, account, qos and working directory are those that
    Slurm has; the directory is the job's `output_dir` only if no other eval has it too.
    """

    job_id: str
    name: str
    at: float
    submitted_at: float
    script: str | None = None
    output_dir: str | None = None
    tasks: list[int] | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    work_dir: str | None = None
    schema: int = SCHEMA


Record = Intent | Accepted | Refused | Abandoned | Adopted


class Entry(Struct):
    """One intent with its outcome, if there is one yet; or an adopted job, which reads like an accepted one."""

    intent: Intent
    accepted: Accepted | None = None
    refused: Refused | None = None
    abandoned: bool = False
    adopted: Adopted | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody knows yet if Slurm took it."""
        return self.accepted is None and self.refused is None and not self.abandoned


def entries(records: Iterable[Record]) -> list[Entry]:
    """All intents in order, each with its outcome; an acceptance counts whatever else was written."""
    by_token: dict[str, Entry] = {}
    for record in records:
        if isinstance(record, Intent):
            by_token.setdefault(record.token, Entry(record))
            continue
        if isinstance(record, Adopted):
            by_token.setdefault(f"{record.job_id} {record.submitted_at}", _adopted(record))
            continue
        entry = by_token.get(record.token)
        if entry is None:
            continue
        if isinstance(record, Accepted):
            entry.accepted = entry.accepted or record
        elif isinstance(record, Refused):
            entry.refused = record
        else:
            entry.abandoned = True
    return list(by_token.values())


def registrations(found: Iterable[Entry]) -> list[Registration]:
    """The evals that Slurm accepted or that were adopted, an array's tasks one by one."""
    return [r for entry in found if entry.intent.what == "eval" for r in _of(entry)]


def _adopted(record: Adopted) -> Entry:
    intent = Intent("", "eval", record.submitted_at, "", 0, record.name, record.script, record.output_dir, record.tasks)
    return Entry(intent, Accepted("", record.job_id, record.at), adopted=record)


def _of(entry: Entry) -> list[Registration]:
    intent, accepted = entry.intent, entry.accepted
    if accepted is None or intent.name is None:
        return []
    token, submitted_at = (intent.token, None) if entry.adopted is None else (None, entry.adopted.submitted_at)
    if intent.tasks is None:
        one = Registration(intent.name, accepted.job_id, intent.at, token, intent.script, intent.output_dir)
        return [replace(one, submitted_at=submitted_at)]
    return [
        Registration(
            task_name(intent.name, task),
            f"{accepted.job_id}_{task}",
            intent.at,
            token,
            intent.script,
            f"{intent.output_dir}/{task}" if intent.output_dir else None,
            submitted_at,
        )
        for task in intent.tasks
    ]
