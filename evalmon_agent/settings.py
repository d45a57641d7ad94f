"""What may the user set: the settings of EXP/evalmon.yaml, checked key by key. Pure."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import msgspec
import yaml
from msgspec import Meta, Struct, field

from evalmon_agent.errors import UnreadableError
from evalmon_agent.words.durations import time_option

MAX_BYTES = 64 * 1024
MAX_ALIASES = 20
FAST_POLLING = "EVALMON_ALLOW_FAST_POLLING"
SLOWEST_ALLOWED_POLL_S = 60

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Glob = Annotated[str, Meta(min_length=1)]


class OurJob(Struct, forbid_unknown_fields=True, frozen=True):
    """How one of our own jobs is submitted; null: as the eval scripts do."""

    time: str
    mem: str
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    extra: list[str] = []


class Settings(Struct, forbid_unknown_fields=True, frozen=True):
    """All settings with their defaults (contract, section 6)."""

    scripts: list[Glob] = field(default_factory=lambda: ["*/eval/*.slurm", "*/eval/*/*.slurm"])
    poll_interval: Seconds = 60.0
    gpu_status_every: Annotated[int, Meta(ge=1)] = 5
    seff_retry_delay: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    sample_interval: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    alert_after: Annotated[int, Meta(ge=1)] = 5
    lost_after: Seconds = 1800.0
    mode: Literal["sidecar", "dependency"] = "sidecar"
    sidecar: OurJob = OurJob(time="1-00:00:00", mem="200M")
    completion: OurJob = OurJob(time="00:30:00", mem="500M")
    mail_user: str | None = None
    notify: list[str] = []
    notify_command: list[str] | None = None
    group_readable: bool = False


def parse(data: bytes, *, path: str, fast_polling: bool) -> Settings:
    """The settings in this YAML text; UnreadableError names the key's path and what is allowed."""
    if len(data) > MAX_BYTES:
        raise UnreadableError(f"{path}: more than {MAX_BYTES // 1024} KiB; these are no evalmon settings")
    try:
        raw = yaml.load(data, Loader=_BoundedLoader)  # noqa: S506 - a SafeLoader with a bound on aliases
        raw = {} if raw is None else raw
        if not isinstance(raw, dict):
            raise UnreadableError(f"{path}: not a mapping of settings; see the example in the README")
        settings = msgspec.convert(_with_defaults(raw), Settings)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise UnreadableError(f"{path}: {_explain(error)}") from None
        raise UnreadableError(f"{path}: not valid YAML: {_one_line(error)}") from None
    _check(settings, path=path, fast_polling=fast_polling)
    return settings


class _BoundedLoader(yaml.SafeLoader):
    """A safe loader that refuses a file made of aliases (a few lines can stand for gigabytes)."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(stream)
        self._aliases = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                raise yaml.YAMLError("too many aliases")
        return super().compose_node(parent, index)


def _with_defaults(raw: dict[object, object]) -> dict[object, object]:
    """Our jobs' settings are given in part: what is left out of `sidecar` keeps its default."""
    whole = dict(raw)
    for key in ("sidecar", "completion"):
        given = raw.get(key)
        if isinstance(given, dict):
            whole[key] = {**msgspec.to_builtins(getattr(Settings(), key)), **given}
    return whole


def _check(settings: Settings, *, path: str, fast_polling: bool) -> None:
    if settings.poll_interval < SLOWEST_ALLOWED_POLL_S and not fast_polling:
        raise UnreadableError(
            f"{path}: poll_interval: {settings.poll_interval:g} is below {SLOWEST_ALLOWED_POLL_S} s, which a shared "
            f"Slurm should not bear; on a test cluster set {FAST_POLLING}=1"
        )
    for key in ("sidecar", "completion"):
        text = getattr(settings, key).time
        if time_option(text) is None:
            raise UnreadableError(f'{path}: {key}.time: "{text}" is no Slurm time; give one like "1-00:00:00", quoted')
    for pattern in settings.scripts:
        if os.path.isabs(pattern) or ".." in pattern.split("/"):
            raise UnreadableError(f"{path}: scripts: {pattern} leads out of the experiment; globs are below it")
    if settings.notify_command == []:
        raise UnreadableError(f"{path}: notify_command: an empty list; give the program and its arguments, or null")


def _explain(error: msgspec.ValidationError) -> str:
    """msgspec's `Expected ..., got ... - at `$.sidecar.time`` with the key first."""
    text, _, where = str(error).partition(" - at `$.")
    key = where.rstrip("`")
    return f"{key}: {text}" if key else text


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
