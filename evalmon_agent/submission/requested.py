"""Reads the time and GPUs that a submission asks for from its sbatch options and partition. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from evalmon_agent.slurm.sinfo import Partition, named_partitions
from evalmon_agent.words.durations import time_option

# `gpu`, `gpu:2`, `gpu:a100`, `gpu:a100:2` in --gres, `gres/gpu:2` in --tres-per-task; `2`, `a100:2` in --gpus.
_GPU = re.compile(r"(?:gres[/:])?gpu(?P<rest>(?::[^:,]*){0,2})")
_NUMBER = re.compile(r"[0-9]{1,6}")


def gpus(options: Mapping[str, str]) -> int | None:
    """How many GPUs one job gets in all; 0 for none, None where its options do not say."""
    if "gpus-per-socket" in options:
        return None
    if "gpus" in options:
        return sum(_gpu_count(part) for part in options["gpus"].split(","))
    nodes = _nodes(options)
    if "gpus-per-node" in options:
        return _times(nodes, sum(_gpu_count(part) for part in options["gpus-per-node"].split(",")))
    of_node = _of_gres(options.get("gres", ""))
    if of_node:
        return _times(nodes, of_node)
    of_task = sum(_gpu_count(part) for part in options.get("gpus-per-task", "0").split(","))
    of_task += _of_gres(options.get("tres-per-task", ""))
    return _times(_tasks(options, nodes), of_task)


def time_limit_s(options: Mapping[str, str], partitions: Sequence[Partition]) -> float | None:
    """A job's time limit: its own, else its partition's. None if there is none, or if several partitions differ."""
    if options.get("time"):
        return time_option(options["time"])
    mine = named_partitions(options.get("partition"), partitions)
    limits = {p.default_time_s if p.default_time_s is not None else p.time_limit_s for p in mine}
    return limits.pop() if len(limits) == 1 else None


def longest_s(options: Mapping[str, str], partitions: Sequence[Partition]) -> float | None:
    """The longest time that its partitions give; None for no limit, or where none of them is known."""
    limits = [p.time_limit_s for p in named_partitions(options.get("partition"), partitions)]
    return max((limit for limit in limits if limit is not None), default=None) if None not in limits else None


def _of_gres(text: str) -> int:
    return sum(
        _gpu_count(match["rest"].removeprefix(":")) for part in text.split(",") if (match := _GPU.fullmatch(part))
    )


def _gpu_count(text: str) -> int:
    """The number in `2` or `a100:2`; 1 for `a100` or an empty text."""
    last = text.rpartition(":")[2]
    return int(last) if _NUMBER.fullmatch(last) else 1


def _nodes(options: Mapping[str, str]) -> int | None:
    """None where Slurm chooses among several."""
    if "nodes" not in options:
        return 1 if options.get("ntasks", "1") == "1" else None
    least, _, most = options["nodes"].partition("-")
    return int(least) if _NUMBER.fullmatch(least) and most in {"", least} else None


def _tasks(options: Mapping[str, str], nodes: int | None) -> int | None:
    if "ntasks" in options:
        return int(options["ntasks"]) if _NUMBER.fullmatch(options["ntasks"]) else None
    per_node = options.get("ntasks-per-node", "1")
    return _times(nodes, int(per_node)) if _NUMBER.fullmatch(per_node) else None


def _times(number: int | None, each: int) -> int | None:
    """The product; 0 of each is 0 in all, even where the number is not known."""
    if each == 0:
        return 0
    return None if number is None else number * each
