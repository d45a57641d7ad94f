"""Asks sinfo about the partitions: the argv, and its rows as records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evalmon_agent.words import durations
from evalmon_agent.words.sizes import count

_FORMAT = "%P\x1f%l\x1f%h\x1f%L"


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition: its time limit (None: none), and whether a job takes whole nodes, or shares even its CPUs.

    `default_time_s`: the limit of a job that asks for none; None: the partition's own limit.
    """

    name: str
    is_default: bool
    time_limit_s: float | None
    exclusive: bool
    oversubscribed: bool = False
    default_time_s: float | None = None


def argv() -> list[str]:
    """All partitions, hidden ones too, one row each."""
    return ["sinfo", "-a", "-h", "-o", _FORMAT]


def parse(text: str) -> tuple[Partition, ...]:
    """Every row of `argv()`'s answer; invalid rows are left out, and each partition is listed once."""
    partitions: dict[str, Partition] = {}
    for line in text.splitlines():
        fields = line.split("\x1f")
        if len(fields) == 4:
            name, limit, shared, default = (field.strip() for field in fields)
            is_default = name.endswith("*")
            name = name.removesuffix("*")
            exclusive = shared.upper().startswith("EXCLUSIVE")
            oversubscribed = shared.upper().startswith(("FORCE", "YES"))
            limit_s, default_s = durations.parse(limit), durations.parse(default)
            partitions[name] = Partition(name, is_default, limit_s, exclusive, oversubscribed, default_s)
    return tuple(partitions.values())


def memory_argv() -> list[str]:
    """The memory of the nodes of all partitions, hidden ones too, one row for each size."""
    return ["sinfo", "-a", "-h", "-e", "-o", "%P\x1f%m"]


def parse_memory(text: str) -> dict[str, int]:
    """{partition: bytes of its largest node}; anything but a number is left out."""
    largest: dict[str, int] = {}
    for line in text.splitlines():
        name, separator, megabytes = line.partition("\x1f")
        mebibytes = count(megabytes.strip().removesuffix("+"))
        if separator and mebibytes is not None:
            name = name.strip().removesuffix("*")
            largest[name] = max(largest.get(name, 0), mebibytes * 1024**2)
    return largest


def is_exclusive(partition: str | None, partitions: Sequence[Partition], *, linear: bool = False) -> bool:
    """Whether even a small job takes a whole node there, which a sidecar must not. `linear`: select/linear."""
    named = named_partitions(partition, partitions)
    return any(p.exclusive or (linear and not p.oversubscribed) for p in named) or (linear and not named)


def named_partitions(partition: str | None, partitions: Sequence[Partition]) -> list[Partition]:
    """The partitions that `--partition=a,b` names; without it, the default one."""
    names = partition.split(",") if partition else []
    return [p for p in partitions if (p.name in names if names else p.is_default)]


def longest_s(partition: str | None, partitions: Sequence[Partition]) -> float | None:
    """The longest time that these partitions give; None for no limit, or where none of them is known."""
    limits = [p.time_limit_s for p in named_partitions(partition, partitions)]
    return max((limit for limit in limits if limit is not None), default=None) if None not in limits else None
