"""What does the registry say: its records, and what follows from them. Pure.

Before each sbatch an intent with a token is on record, after it an acceptance or a refusal; the token travels
in the path of the submitted script, so a killed submitter is resolved by looking for it. What has to wait for
room is on record as planned, with the token that its intent will have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace as changed

from evalmon_agent.tracking.facts import Registration
from evalmon_agent.words.eval_names import task_name

SCHEMA = 1
What = Literal["eval", "completion", "sidecar"]


class Intent(Struct, tag="intent", tag_field="kind", omit_defaults=True, frozen=True):
    """About to call sbatch for this. `tasks`: the array's task ids; None for a job that is no array.

    `options`: those of sbatch's that stand above the script's own, as a retry with more time has them.
    """

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
    options: list[str] = []


class Planned(Struct, tag="planned", tag_field="kind", omit_defaults=True, frozen=True):
    """To be submitted once there is room: everything that its intent will say, whose token is the same.

    `environment`: which one it is to run with (`slurm/late_environment`), as a digest that tells nothing of it.
    An evalmon that does not know this record passes it over.
    """

    token: str
    at: float
    name: str
    script: str
    output_dir: str | None = None
    tasks: list[int] | None = None
    options: list[str] = []
    environment: str = ""
    schema: int = SCHEMA


class Accepted(Struct, tag="accepted", tag_field="kind", omit_defaults=True, frozen=True):
    """Slurm took it: the id of its job (of an array: the array's), and the cluster if sbatch named one."""

    token: str
    job_id: str
    at: float
    cluster: str | None = None
    schema: int = SCHEMA


class Refused(Struct, tag="refused", tag_field="kind", omit_defaults=True, frozen=True):
    """Slurm did not take it, with its own words. `waits`: not now, or not from that place; what is planned stays so."""

    token: str
    error: str
    at: float
    schema: int = SCHEMA
    waits: bool = False


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


class Withdrawn(Struct, tag="withdrawn", tag_field="kind", omit_defaults=True, frozen=True):
    """What was planned is not to be submitted any more."""

    token: str
    at: float
    schema: int = SCHEMA


Record = Intent | Planned | Accepted | Refused | Abandoned | Withdrawn | Adopted


class Entry(Struct, frozen=True):
    """One intent with its outcome, if there is one yet; or an adopted job, which reads like an accepted one.

    `planned`: it was on record before there was room; until its submission has `begun`, `intent` says what it will be.
    """

    intent: Intent
    accepted: Accepted | None = None
    refused: Refused | None = None
    abandoned: bool = False
    adopted: Adopted | None = None
    planned: Planned | None = None
    withdrawn: bool = False
    begun: bool = True

    @property
    def is_open(self) -> bool:
        """Whether nobody knows yet if Slurm took it."""
        return self.begun and self.accepted is None and self.refused is None and not self.abandoned

    @property
    def is_waiting(self) -> bool:
        """Whether it is planned, and is neither with Slurm nor on its way, nor refused for good."""
        is_over = self.accepted is not None or (self.refused is not None and not self.refused.waits)
        return self.planned is not None and not self.withdrawn and not self.is_open and not is_over


class Entries:
    """All submissions in order, each with its outcome; an acceptance counts whatever else was written."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._by_token: dict[str, Entry] = {}
        self._tokens_by_name: dict[str, list[str]] = {}
        self._token_by_job: dict[str, str] = {}
        for record in records:
            self.take(record)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_token.values())

    def of_token(self, token: str) -> Entry | None:
        """The submission with this token."""
        return self._by_token.get(token)

    def of_name(self, name: str) -> list[Entry]:
        """The submissions of the eval or array of this name, in order."""
        return [self._by_token[token] for token in self._tokens_by_name.get(name, ())]

    def of_job(self, job_id: str) -> Entry | None:
        """The last submission that became this job (of an array: the array's id)."""
        token = self._token_by_job.get(job_id)
        return None if token is None else self._by_token[token]

    def take(self, record: Record) -> None:
        """Take in the next record."""
        token = f"{record.job_id} {record.submitted_at}" if isinstance(record, Adopted) else record.token
        before = self._by_token.get(token)
        entry = _after(before, record)
        if entry is None:
            return
        self._by_token[token] = entry
        name = entry.intent.name
        if name is not None and (before is None or before.intent.name != name):
            self._tokens_by_name.setdefault(name, []).append(token)
        if entry.accepted is not None:
            self._token_by_job[entry.accepted.job_id] = token


def _after(entry: Entry | None, record: Record) -> Entry | None:
    """What becomes of an entry; None if the record is the outcome of nothing that is on record."""
    if isinstance(record, Adopted):
        return entry or _adopted(record)
    if isinstance(record, Intent):
        return _begun(entry, record)
    if isinstance(record, Planned):
        return _planned(entry, record)
    return None if entry is None else _closed(entry, record)


def _begun(entry: Entry | None, intent: Intent) -> Entry:
    """A token is used again only for what was planned: its next try, all of whose earlier ones came to nothing."""
    if entry is None:
        return Entry(intent)
    if entry.planned is not None:
        return changed(entry, intent=intent, begun=True, refused=None, abandoned=False)
    return entry


def _planned(entry: Entry | None, planned: Planned) -> Entry:
    if entry is not None:
        return changed(entry, planned=planned)
    will_be = Intent(
        planned.token,
        "eval",
        planned.at,
        host="",
        pid=0,
        name=planned.name,
        script=planned.script,
        output_dir=planned.output_dir,
        tasks=planned.tasks,
        options=planned.options,
    )
    return Entry(will_be, planned=planned, begun=False)


def _closed(entry: Entry, record: Accepted | Refused | Abandoned | Withdrawn) -> Entry:
    if isinstance(record, Accepted):
        return changed(entry, accepted=entry.accepted or record)
    if isinstance(record, Refused):
        return changed(entry, refused=record)
    if isinstance(record, Abandoned):
        return changed(entry, abandoned=True)
    return changed(entry, withdrawn=True)


def entries(records: Iterable[Record]) -> list[Entry]:
    """All submissions in order, each with its outcome."""
    return list(Entries(records))


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
