"""Computes the sbatch options of a retry: more time or memory where it ran out, and the nodes to exclude. Pure.

The script's `#SBATCH` lines are the user's and stay as they are: a retry has options above them. It never gets less
than it had, more only of what it lacked, and not beyond what the partition and its nodes have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evalmon_agent.evidence.result import EvalResult, whole_s
from evalmon_agent.slurm.scontrol import split_nodes
from evalmon_agent.slurm.sinfo import Partition, longest_s, named_partitions
from evalmon_agent.tracking.records import Attempt
from evalmon_agent.words.durations import clock, time_option
from evalmon_agent.words.sizes import parse_mem_option

_MIB = 1024 * 1024
_PACE_MARGIN = 1.1
"""Samples differ, so this factor is added to the time that the pace so far predicts."""

_MEMORY = ("mem-per-gpu", "mem-per-cpu", "mem")
"""sbatch takes one of them; they exclude one another."""


@dataclass(frozen=True, slots=True)
class Had:
    """What the eval had last, as far as Slurm says. `cpus` and `gpus` are those of the whole job.

    `whole_s`: how long all its samples would take, at the pace of those that it finished.
    """

    time_limit_s: float | None = None
    elapsed_s: float | None = None
    whole_s: float | None = None
    memory_bytes: int | None = None
    cpus: int | None = None
    gpus: int | None = None
    single_node: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that a job gets where the eval runs; None: no limit, or unknown."""

    time_s: float | None = None
    node_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """sbatch's options, and the changes in words; `why_not`: why there is no more of what it lacked."""

    argv: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    why_not: str = ""


def had_by(attempt: Attempt | None, result: EvalResult | None) -> Had:
    """What this attempt had; `result`: the worst of its logs."""
    if attempt is None:
        return Had()
    figures = attempt.figures or attempt.accounted
    node = attempt.node_list or ""
    return Had(
        time_limit_s=attempt.time_limit_s,
        elapsed_s=attempt.elapsed_s,
        whole_s=whole_s(result, attempt.elapsed_s),
        memory_bytes=figures.memory_requested_bytes if figures is not None else None,
        cpus=attempt.cpus,
        gpus=sum(attempt.gpus.values()) if attempt.gpus else None,
        single_node=bool(node) and "," not in node and "[" not in node,
    )


def limits_in(named: str, partitions: Sequence[Partition], node_memory: Mapping[str, int]) -> Limits:
    """Of several partitions the one that allows most; `named` as --partition has them, "" for the default.

    `node_memory`: by partition, the bytes of its largest node.
    """
    sizes = [node_memory[p.name] for p in named_partitions(named, partitions) if p.name in node_memory]
    return Limits(longest_s(named, partitions), max(sizes, default=None))


def time_options(
    script: Mapping[str, str], earlier: Mapping[str, str], had: Had, limits: Limits, *, scale: float | None
) -> Options:
    """`--time`; `earlier`: the options that its last submission had above the script's. `scale`: None for no more."""
    given_s = time_option(earlier.get("time", ""))
    if scale is None:
        return _time(max(given_s, time_option(script.get("time", "")) or 0.0)) if given_s else Options()
    times_s = (had.time_limit_s, given_s, time_option(script.get("time", "")), had.elapsed_s)
    had_s = next((time_s for time_s in times_s if time_s), None)
    if had_s is None:
        return Options(why_not="its time limit is unknown; raise --time in its script")
    most_s = limits.time_s or math.inf
    needed_s = max(had_s * scale, (had.whole_s or 0.0) * _PACE_MARGIN)
    whole_minutes_s = math.ceil(round(needed_s / 60, 3)) * 60.0
    new_s = max(min(whole_minutes_s, most_s), had_s, time_option(script.get("time", "")) or 0.0)
    if new_s <= had_s:
        return Options(
            _time(had_s).argv,
            why_not=f"it already had the partition's limit of {clock(had_s)}; choose a partition with a longer one",
        )
    is_rounded = new_s == whole_minutes_s and round(new_s - needed_s, 3) > 0
    rounded = " (rounded up to minutes)" if is_rounded else ""
    return Options(_time(new_s).argv, (f"time {clock(had_s)} -> {clock(new_s)}{rounded}",))


def memory_options(
    script: Mapping[str, str], earlier: Mapping[str, str], had: Had, limits: Limits, *, scale: float | None
) -> Options:
    """`--mem`, `--mem-per-cpu` or `--mem-per-gpu`, whichever it had; `--mem-per-cpu` if it had none."""
    kind = next((name for options in (earlier, script) for name in _MEMORY if name in options), None)
    given = parse_mem_option(earlier.get(kind, "")) if kind else None
    own = parse_mem_option(script.get(kind, "")) if kind else None
    if scale is None:
        return Options((f"--{kind}={_mib(max(given, own or 0))}",)) if kind and given else Options()
    if kind is not None and (given or own) is None:
        return Options(why_not="it already had all the memory of its nodes; choose larger nodes in its script")
    if kind is None:
        kind, given = "mem-per-cpu", _per_cpu(had)
    had_bytes = max(given or 0, own or 0)
    if not had_bytes:
        return Options(why_not="the memory it had is unknown; raise --mem in its script")
    new_bytes = int(max(min(math.ceil(had_bytes * scale), _most(kind, had, limits)), had_bytes))
    if _mib(new_bytes) == _mib(had_bytes):
        return Options(
            (f"--{kind}={_mib(had_bytes)}",), why_not=f"it already had all of a node's memory ({_mib(had_bytes)})"
        )
    return Options((f"--{kind}={_mib(new_bytes)}",), (f"{kind} {_mib(had_bytes)} -> {_mib(new_bytes)}",))


def exclude_options(script: Mapping[str, str], earlier: Mapping[str, str], nodes: str) -> Options:
    """`--exclude`: the script's own nodes, those of its last submission, and `nodes`, in sbatch's notation."""
    if not nodes and "exclude" not in earlier:
        return Options()
    own = script.get("exclude", "")
    if "/" in own:  # sbatch(1): a file that lists them
        return Options(why_not=f"its script excludes the nodes listed in {own}; add {nodes} to that file")
    parts = [part for text in (own, earlier.get("exclude", ""), nodes) for part in split_nodes(text)]
    return Options((f"--exclude={','.join(dict.fromkeys(parts))}",), (f"excluding {nodes}",) if nodes else ())


def _time(seconds: float) -> Options:
    return Options((f"--time={clock(seconds)}",))


def _per_cpu(had: Had) -> int | None:
    return None if not had.memory_bytes or not had.cpus else math.ceil(had.memory_bytes / had.cpus)


def _most(kind: str, had: Had, limits: Limits) -> float:
    """The most that one node allows of this kind, for a job on one node; other jobs are left to sbatch."""
    whole = limits.node_memory_bytes
    if whole is None:
        return math.inf
    if kind == "mem":
        return whole
    parts = had.cpus if kind == "mem-per-cpu" else had.gpus
    return whole // _MIB // parts * _MIB if parts and had.single_node else math.inf


def _mib(size: int) -> str:
    return f"{math.ceil(size / _MIB)}M"
