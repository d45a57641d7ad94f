"""Defines the registry's lines, and derives from them each submission's outcome, and which evals wait. Pure.

An intent with a token is recorded before each sbatch, an acceptance or a refusal after it. The token is part of the
path that sbatch is given, so the job of a killed submitter is found by it. An eval that has to wait for a free place
in the queue is recorded as planned, with the token that its intent will have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace as changed

from evalmon_agent.tracking.records import ExperimentState, Refusal, Waiting
from evalmon_agent.words.eval_names import task_name
from evalmon_agent.words.job_id import JobId, array_task

SCHEMA = 1
What = Literal["eval", "completion", "sidecar", "drop"]


Name = tuple[str, int | None]
"""One eval in the registry: its name, and the task id if it is a task of an array."""


def eval_name(name: Name) -> str:
    """The eval's name in the state."""
    base, task = name
    return base if task is None else task_name(base, task)


class Submission(Struct, omit_defaults=True, frozen=True):
    """One script for Slurm: an eval, an array of evals, or a monitor job (`what`), which has a token only.

    `what` is "drop" in the entry of a drop, which submits nothing.

    `script`: its path; "" if unknown. `tasks`: the array's task ids; None for a job that is not an array. `options`:
    sbatch options on the command line, which override the script's own, as in a retry with more time. `token`: part of
    the path that sbatch was given (`/{token}/`); "" for an adopted job, which was submitted without evalmon.
    """

    name: str = ""
    script: str = ""
    output_dir: str | None = None
    tasks: tuple[int, ...] | None = None
    options: tuple[str, ...] = ()
    token: str = ""
    what: What = "eval"

    @property
    def size(self) -> int:
        """How many evals this submission has."""
        return 1 if self.tasks is None else len(self.tasks)

    @property
    def names(self) -> list[Name]:
        """The evals of this submission; none for a monitor job."""
        if self.what != "eval":
            return []
        return [(self.name, task) for task in ([None] if self.tasks is None else self.tasks)]

    @property
    def eval_names(self) -> list[str]:
        """The same, as the state names them."""
        return list(map(eval_name, self.names))

    def of_task(self, task: int) -> Submission:
        """One eval of an array, as if it had been submitted on its own."""
        output_dir = f"{self.output_dir}/{task}" if self.output_dir else None
        return changed(self, name=task_name(self.name, task), output_dir=output_dir, tasks=None)


class Intent(Struct, tag="intent", tag_field="kind", frozen=True):
    """About to call sbatch for this, at `at` (epoch) in this process."""

    submission: Submission
    at: float
    host: str
    pid: int
    schema: int = SCHEMA


class Planned(Struct, tag="planned", tag_field="kind", omit_defaults=True, frozen=True):
    """To be submitted once there is room; its intent will have the same token.

    `environment`: the digest of the environment that it is to run with (`slurm/environment.py`), without its contents.
    """

    submission: Submission
    at: float
    environment: str = ""
    schema: int = SCHEMA


class Accepted(Struct, tag="accepted", tag_field="kind", omit_defaults=True, frozen=True):
    """Slurm accepted it: the id of its job (of the array, if it is one), and the cluster if sbatch named one."""

    token: str
    job_id: JobId
    at: float
    cluster: str | None = None
    schema: int = SCHEMA


class Refused(Struct, tag="refused", tag_field="kind", omit_defaults=True, frozen=True):
    """Slurm refused it, with its message. `waits`: only for now, or only from that place; a planned eval stays so."""

    token: str
    error: str
    at: float
    schema: int = SCHEMA
    waits: bool = False


class Abandoned(Struct, tag="abandoned", tag_field="kind", omit_defaults=True, frozen=True):
    """The submitter died, and its job was looked for and not found."""

    token: str
    at: float
    schema: int = SCHEMA


class Adopted(Struct, tag="adopted", tag_field="kind", omit_defaults=True, frozen=True):
    """A job that was submitted without evalmon is an eval from now on.

    It has no token; `submitted_at`, its Submit time, distinguishes it from an earlier job with the same id. Partition,
    account, qos, working directory, and where its `output` and `errors` go (patterns of sbatch(1)) are Slurm's; the
    directory is its `output_dir` only if no other eval has the same.
    """

    submission: Submission
    job_id: JobId
    at: float
    submitted_at: float
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    work_dir: str | None = None
    schema: int = SCHEMA
    output: str | None = None
    errors: str | None = None


class Withdrawn(Struct, tag="withdrawn", tag_field="kind", omit_defaults=True, frozen=True):
    """A planned eval is not to be submitted any more."""

    token: str
    at: float
    schema: int = SCHEMA


class Dropped(Struct, tag="dropped", tag_field="kind", omit_defaults=True, frozen=True):
    """The user took these evals (by name; of an array the tasks) off the books, until they are submitted again."""

    names: tuple[str, ...]
    at: float
    schema: int = SCHEMA


Record = Intent | Planned | Accepted | Refused | Abandoned | Withdrawn | Adopted | Dropped


class Entry(Struct, frozen=True):
    """One submission with its outcome, if there is one yet, or a drop; an adopted job reads like an accepted one.

    `at`: when it was handed to sbatch, or until then planned; of an adopted job its Submit (epoch).
    """

    submission: Submission
    at: float
    intent: Intent | None = None
    accepted: Accepted | None = None
    refused: Refused | None = None
    abandoned: bool = False
    adopted: Adopted | None = None
    planned: Planned | None = None
    withdrawn: bool = False
    dropped: Dropped | None = None

    @property
    def token(self) -> str:
        """Its submission's."""
        return self.submission.token

    @property
    def is_eval(self) -> bool:
        """Whether it is an eval, not a monitor job."""
        return self.submission.what == "eval"

    @property
    def has_begun(self) -> bool:
        """Whether it was given to sbatch, by evalmon or (adopted) by somebody else."""
        return self.intent is not None or self.adopted is not None

    @property
    def is_open(self) -> bool:
        """Whether it is not known yet if Slurm accepted it."""
        return self.intent is not None and self.accepted is None and self.refused is None and not self.abandoned

    @property
    def is_waiting(self) -> bool:
        """Whether it is planned, and neither submitted, nor being submitted, nor refused for good."""
        is_over = self.accepted is not None or self.is_refused
        return self.planned is not None and not self.withdrawn and not self.is_open and not is_over

    @property
    def is_refused(self) -> bool:
        """Whether Slurm refused it for good, so that it waits no longer."""
        return self.accepted is None and self.refused is not None and not self.refused.waits


class Entries:
    """All submissions in order, each with its outcome; an acceptance counts even if something else follows."""

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self._by_token: dict[str, Entry] = {}
        self._tokens_by_name: dict[str, list[str]] = {}
        self._token_by_job: dict[str, str] = {}
        for record in records:
            self.add(record)

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

    def add(self, record: Record) -> None:
        """Take in the next record."""
        token = _token_of(record)
        before = self._by_token.get(token)
        entry = _after(before, record)
        if entry is None:
            return
        self._by_token[token] = entry
        name = entry.submission.name
        if entry.is_eval and (before is None or before.submission.name != name):
            self._tokens_by_name.setdefault(name, []).append(token)
        if entry.accepted is not None:
            self._token_by_job[entry.accepted.job_id] = token


def _token_of(record: Record) -> str:
    if isinstance(record, Adopted):
        return f"{record.job_id} {record.submitted_at}"
    if isinstance(record, Dropped):
        return f"drop {record.at} {' '.join(record.names)}"
    return record.submission.token if isinstance(record, Intent | Planned) else record.token


def _after(entry: Entry | None, record: Record) -> Entry | None:
    """The entry after this record; None if it is the outcome of a submission that is not on record."""
    if isinstance(record, Adopted):
        accepted = Accepted("", record.job_id, record.at)
        return entry or Entry(record.submission, record.submitted_at, accepted=accepted, adopted=record)
    if isinstance(record, Dropped):
        return entry or Entry(Submission(what="drop"), record.at, dropped=record)
    if isinstance(record, Intent):
        return _begun(entry, record)
    if isinstance(record, Planned):
        entry = entry or Entry(record.submission, record.at)
        return changed(entry, planned=record)
    return None if entry is None else _closed(entry, record)


def _begun(entry: Entry | None, intent: Intent) -> Entry:
    """A token is used again only for the next try of a planned eval, after its earlier tries were refused."""
    if entry is None:
        return Entry(intent.submission, intent.at, intent)
    if entry.planned is None:
        return entry
    return changed(entry, submission=intent.submission, at=intent.at, intent=intent, refused=None, abandoned=False)


def _closed(entry: Entry, record: Accepted | Refused | Abandoned | Withdrawn) -> Entry:
    if isinstance(record, Accepted):
        return changed(entry, accepted=entry.accepted or record)
    if isinstance(record, Refused):
        return changed(entry, refused=record)
    if isinstance(record, Abandoned):
        return changed(entry, abandoned=True)
    return changed(entry, withdrawn=True)


@dataclass(frozen=True, slots=True)
class Registration:
    """One eval that Slurm accepted, or that was adopted; `submission` is of this eval alone.

    `registered_at`: just before the sbatch; for an adopted job, its Submit or its start.
    `submitted_at`: the Submit of a job that `watch` adopted; None if it is not known beforehand. `output`, `errors`:
    where Slurm writes what such a job prints, as patterns.
    """

    submission: Submission
    job_id: JobId
    registered_at: float
    submitted_at: float | None = None
    output: str | None = None
    errors: str | None = None


def registrations(entries: Iterable[Entry]) -> list[Registration]:
    """The evals that Slurm accepted or that were adopted, an array's tasks one by one."""
    return [r for entry in entries if entry.is_eval for r in _of(entry)]


def _of(entry: Entry) -> list[Registration]:
    submission, accepted = entry.submission, entry.accepted
    if accepted is None:
        return []
    of_slurm = () if (by := entry.adopted) is None else (by.submitted_at, by.output, by.errors)
    if submission.tasks is None:
        return [Registration(submission, accepted.job_id, entry.at, *of_slurm)]
    return [
        Registration(submission.of_task(task), array_task(accepted.job_id, task), entry.at, *of_slurm)
        for task in submission.tasks
    ]


def unregistered(entries: Iterable[Entry], state: ExperimentState) -> list[Registration]:
    """Those of them that the state lacks."""
    lacking = [entry for entry in entries if entry.is_eval and not all(_are_in(state, entry))]
    return [r for r in registrations(lacking) if not has_registration(state, r)]


def has_registration(state: ExperimentState, fact: Registration) -> bool:
    """Whether the eval has this job already."""
    return _has(state, fact.submission.name, fact.job_id, fact.submission.token)


def _are_in(state: ExperimentState, entry: Entry) -> Iterator[bool]:
    """Whether the state has each eval of this entry; without their registrations, of which an array has many."""
    if entry.accepted is not None:
        array = entry.accepted.job_id
        for name, task in entry.submission.names:
            job_id = array if task is None else array_task(array, task)
            yield _has(state, eval_name((name, task)), job_id, entry.token)


def _has(state: ExperimentState, name: str, job_id: JobId, token: str) -> bool:
    ev = state.evals.get(name)
    return ev is not None and any(job.job_id == job_id and job.token == (token or None) for job in ev.jobs)


def latest(entries: Iterable[Entry]) -> dict[Name, Entry]:
    """The submission that counts for each eval: the last one that Slurm accepted, that is on its way, or that waits."""
    counting: dict[Name, Entry] = {}
    for entry in entries:
        if entry.accepted is not None or entry.is_open or entry.is_waiting:
            counting.update(dict.fromkeys(entry.submission.names, entry))
    return counting


def waiting(entries: Sequence[Entry]) -> list[Entry]:
    """The submissions that wait for room, in order; without those whose evals were submitted in another way."""
    return [entry for entry in unsubmitted(entries) if entry.is_waiting]


def unsubmitted(entries: Sequence[Entry]) -> list[Entry]:
    """Those that wait, and those on their way, which may come back until Slurm's answer is recorded."""
    counting = latest(entries)
    return [
        entry
        for entry in entries
        if entry.planned is not None
        and (entry.is_waiting or entry.is_open)
        and all(counting[name] is entry for name in entry.submission.names)
    ]


def refused(entries: Iterable[Entry]) -> dict[str, Refusal]:
    """By name, the evals whose last submission Slurm refused for good; also where an earlier one was accepted."""
    refusals: dict[str, Refusal] = {}
    for entry in entries:
        names = entry.submission.eval_names
        if entry.is_refused and entry.refused is not None:
            refusal = Refusal(entry.refused.at, entry.refused.error, entry.submission.script)
            refusals.update(dict.fromkeys(names, refusal))
        elif refusals and (entry.accepted is not None or entry.is_open or entry.is_waiting):
            for name in names:
                refusals.pop(name, None)
    return refusals


def dropped(entries: Iterable[Entry]) -> dict[str, float]:
    """By name, the evals that the user dropped, and when; without those that were submitted (or adopted) again.

    What never reached Slurm, because its submitter died or it was withdrawn, brings none back.
    """
    drops: dict[str, float] = {}
    for entry in entries:
        if entry.dropped is not None:
            drops.update(dict.fromkeys(entry.dropped.names, entry.at))
        elif drops and (entry.accepted is not None or entry.is_open or entry.is_waiting or entry.is_refused):
            for name in entry.submission.eval_names:
                drops.pop(name, None)
    return drops


def in_queue(entries: Sequence[Entry], state: ExperimentState | None) -> int:
    """How many evals are with Slurm or on their way, that is, not known to be over."""
    return sum(not entry.is_waiting and not _is_over(entry, name, state) for name, entry in latest(entries).items())


def last_begun_at(entries: Iterable[Entry]) -> float | None:
    """When the last eval was given to sbatch (epoch)."""
    return max((e.at for e in entries if e.is_eval and e.has_begun), default=None)


def update_unsubmitted(state: ExperimentState, entries: Sequence[Entry]) -> None:
    """Set `waiting`, `on_their_way`, `refused` and `dropped` by the registry."""
    state.refused, state.dropped = refused(entries), dropped(entries)
    state.on_their_way = sum(entry.is_open and entry.is_eval for entry in entries)
    before = state.waiting
    state.waiting = {
        name: before.get(name) or Waiting(since=e.planned.at, script=e.submission.script)
        for e in unsubmitted(entries)
        for name in e.submission.eval_names
        if e.planned is not None
    }
    if not state.waiting:
        state.waiting_for = None


def _is_over(entry: Entry, name: Name, state: ExperimentState | None) -> bool:
    ev = state.evals.get(eval_name(name)) if state is not None else None
    # An adopted job has no token; its entry's is empty.
    return ev is not None and ev.final and ev.jobs[-1].token == (entry.token or None)
