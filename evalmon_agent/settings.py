"""Parses the settings of EXP/evalmon.yaml, and checks them key by key. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import Meta, Struct, field

from evalmon_agent.errors import UnreadableError, did_you_mean
from evalmon_agent.words.durations import time_option
from evalmon_agent.words.printable import printable
from evalmon_agent.words.sizes import parse_mem_option

MAX_BYTES = 64 * 1024
MAX_ALIASES = 20
FAST_POLLING = "EVALMON_ALLOW_FAST_POLLING"
SHORTEST_POLL_S = 60

_OUR_JOBS = ("sidecar", "completion")
_TYPES = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "object": "settings of its own, `key: value` on each line",
    "str": "text",
}
_HINTS = {
    "scripts": ', e.g. ["*.slurm"]',
    "notify": ', e.g. ["mailto://me@example.org"]',
    "notify_command": ', e.g. ["/home/me/tell.sh", "--now"]',
    "extra": ', e.g. ["--nice=100"]',
    "time": '; put it in quotes, time: "00:30:00": without them YAML reads minutes and seconds as one number',
    "mem": '; give a number with a unit: "200M"',
    "quiet": '; give the hours like "22:00-07:00", in quotes',
    "gpu_hour_price": "; give one number, or one for each GPU type as Slurm names it: {a100: 1.2, h100: 3}",
}
_NUMBERS = ("int", "float", "bool")
_EXPECTED = re.compile(r"Expected `(?P<types>[\w| ]+)`(?P<bound> .*?)?(?:, got `(?P<got>\w+)`)?")
_NEVER_SHOWN = "notify"
"""Settings that begin so may hold a password or a token."""
_URL = re.compile(r"\S*://\S*")
_HIDDEN = "(a URL)"
# The user's own text in messages of PyYAML's, and in those from its insides.
_QUOTED = re.compile(r"((?:alias|anchor|handle|tag) )'[^']*'")
_ANY_QUOTED = re.compile(r"()'.*'")

# What PyYAML lets through from its own insides: `!!int ""`, `!!bool maybe`, `!!timestamp x`.
_YAML_SLIPS = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Price = Annotated[float, Meta(ge=0, le=1e9)]
Glob = Annotated[str, Meta(min_length=1)]
NotificationEvent = Literal["complete", "failed", "alert", "alert-cleared", "outage", "recovered"]
_CHOICES = {"mode": ("sidecar", "dependency"), "events": get_args(NotificationEvent)}
Hours = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$")]


class MonitorJobSettings(Struct, frozen=True):
    """How a monitor job is submitted; null: as the eval scripts are."""

    time: str
    mem: str
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    extra: list[str] = []


class NotifyTarget(Struct, frozen=True, forbid_unknown_fields=True):
    """An Apprise URL, which is a secret; the events that it gets; the local hours in which they are kept back."""

    url: Annotated[str, Meta(min_length=1)]
    events: Annotated[list[NotificationEvent], Meta(min_length=1)] = field(
        default_factory=lambda: list(get_args(NotificationEvent))
    )
    quiet: Hours | None = None


class Settings(Struct, frozen=True):
    """All settings with their defaults, as docs/settings.md lists them."""

    scripts: Annotated[list[Glob], Meta(min_length=1)] = field(
        default_factory=lambda: ["*/eval/*.slurm", "*/eval/*/*.slurm"]
    )
    poll_interval: Seconds = 60.0
    gpu_status_every: Annotated[int, Meta(ge=1)] = 5
    seff_retry_delay: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    sample_interval: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    alert_after: Annotated[int, Meta(ge=1)] = 5
    lost_after: Seconds = 1800.0
    mode: Literal["sidecar", "dependency"] = "sidecar"
    sidecar: MonitorJobSettings = MonitorJobSettings(time="1-00:00:00", mem="200M")
    completion: MonitorJobSettings = MonitorJobSettings(time="00:30:00", mem="500M")
    max_submit: Annotated[int, Meta(ge=1)] | None = None
    stagger: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    gpu_hour_price: Price | dict[str, Price] | None = None
    currency: Annotated[str, Meta(min_length=1, max_length=20)] = "EUR"
    mail_user: str | None = None
    notify: list[Annotated[str, Meta(min_length=1)] | NotifyTarget] = []
    notify_command: list[str] | None = None
    group_readable: bool = False
    allow_world_writable: bool = False


def parse(data: bytes, *, path: str, fast_polling: bool) -> Settings:
    """The settings in this YAML text; UnreadableError names the key's path and what is allowed."""
    try:
        raw = _load(data)
        _refuse_unknown(raw, Settings, "")
        settings = msgspec.convert(_with_defaults(raw), Settings)
        _check(settings, fast_polling=fast_polling)
    except msgspec.ValidationError as error:
        raise UnreadableError(f"{path}: {_explain(_URL.sub(_HIDDEN, str(error)))}") from None
    except _Unusable as error:
        raise UnreadableError(f"{path}: {_URL.sub(_HIDDEN, str(error))}") from None
    return settings


class _Unusable(Exception):  # noqa: N818 - never seen outside; it becomes an UnreadableError
    """What is wrong, without the file's name."""


def _load(data: bytes) -> dict[object, object]:
    if len(data) > MAX_BYTES:
        raise _Unusable(f"more than {MAX_BYTES // 1024} KiB; these are not evalmon settings")
    import yaml  # noqa: PLC0415 - most experiments have no such file, and every command would wait for it

    try:
        aliases = sum(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, Loader=yaml.SafeLoader))
        if aliases > MAX_ALIASES:
            raise _Unusable("not valid YAML: too many aliases")  # a few lines can stand for gigabytes
        raw = yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError, *_YAML_SLIPS) as error:
        raise _Unusable(f"not valid YAML: {_one_line(error)}") from None
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise _Unusable("not a mapping of settings; write `key: value` on each line, e.g. max_submit: 20")
    return raw


def _with_defaults(raw: dict[object, object]) -> dict[object, object]:
    """The settings of a monitor job may be given in part: what is left out of `sidecar` keeps its default."""
    whole = dict(raw)
    for key in _OUR_JOBS:
        given = raw.get(key)
        if isinstance(given, dict):
            whole[key] = {**msgspec.to_builtins(getattr(Settings(), key)), **given}
    return whole


def _refuse_unknown(raw: dict[object, object], kind: type[Struct], where: str) -> None:
    known = kind.__struct_fields__
    for key, value in raw.items():
        if key not in known:
            meant = did_you_mean(str(key), known) or f"; there are {', '.join(known)}"
            raise _Unusable(f"{where}{printable(str(key))}: no such setting{meant}")
        if key in _OUR_JOBS and isinstance(value, dict):
            _refuse_unknown(value, MonitorJobSettings, f"{where}{key}.")


def _check(settings: Settings, *, fast_polling: bool) -> None:
    """Check what the types cannot express."""
    if settings.poll_interval < SHORTEST_POLL_S and not fast_polling:
        raise _Unusable(
            f"poll_interval: {settings.poll_interval:g} is below {SHORTEST_POLL_S} s, which a shared "
            f"Slurm should not have to bear; on a test cluster set {FAST_POLLING}=1"
        )
    for key, text in _texts(msgspec.to_builtins(settings), ""):
        if printable(text, max_chars=len(text)) != text:
            shown = "" if key.startswith(_NEVER_SHOWN) else f"{printable(text)}: "
            raise _Unusable(f"{key}: {shown}contains a control character; only plain text is allowed")
    for name in _OUR_JOBS:
        job: MonitorJobSettings = getattr(settings, name)
        if time_option(job.time) is None:
            raise _Unusable(f'{name}.time: "{job.time}" is not a Slurm time; give one like "1-00:00:00", in quotes')
        if parse_mem_option(job.mem) is None:
            raise _Unusable(f'{name}.mem: "{job.mem}" is not an amount of memory; give one like "200M"')
    for pattern in settings.scripts:
        if os.path.isabs(pattern) or ".." in pattern.split("/"):
            raise _Unusable(f"scripts: {pattern} leads out of the experiment; globs are below it")
    if settings.notify_command == []:
        raise _Unusable("notify_command: an empty list; give the program and its arguments, or null")


def _texts(value: object, key: str) -> Iterator[tuple[str, str]]:
    """Every text with its key's path."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _texts(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _texts(inner, f"{key}[{number}]")


def _explain(error: str) -> str:
    """msgspec's `Expected `array`, got `str` - at `$.scripts`` in the user's words, with the key first."""
    text, _, where = error.partition(" - at `")
    key = where.removeprefix("key` in `").removeprefix("$.").rstrip("`").removesuffix("[...]")
    hint = _HINTS.get(key.rpartition(".")[2], "")
    if text.startswith("Invalid enum value"):
        return f"{key} must be {' or '.join(_CHOICES.get(key.rpartition('.')[2].partition('[')[0], ('another one',)))}"
    expected = _EXPECTED.fullmatch(text)
    if expected is None or not key:
        return f"{key}: {text}{hint}" if key else text
    types, bound = expected["types"].split(" | "), expected["bound"] or ""
    if not hint and types[0] == "str" and expected["got"] in _NUMBERS:
        hint = "; put it in quotes"
    if "length" in bound:
        bound = " that is not empty"
    elif "regex" in bound:
        bound = ""  # the hint says it in words
    first, *others = (_TYPES.get(name, name) for name in types)
    return f"{key} must be {' or '.join([first + bound, *others])}{hint}"


def _one_line(error: Exception) -> str:
    """What is wrong and where. Not the line itself, which PyYAML would quote: it may hold a URL with a password."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    text, quoted = " ".join(str(error).split()), _ANY_QUOTED
    if problem and mark is not None:
        quoted = _QUOTED
        context = getattr(error, "context", None)
        text = f"line {mark.line + 1}, column {mark.column + 1}: {f'{context}, ' if context else ''}{problem}"
    return printable(quoted.sub(r"\1'...'", text)) or type(error).__name__
