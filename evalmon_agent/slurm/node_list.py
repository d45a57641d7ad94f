"""Parses Slurm's lists of nodes, like `gpu[01-03,7],login1`."""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product, zip_longest
from math import prod

_NODES_AT_MOST = 10_000

_PART = re.compile(r"(?:[^,\[]|\[[^\]]*\])+")
_GROUP = re.compile(r"\[([^\]]*)\]")
_RANGE = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)


def split(node_list: str) -> list[str]:
    """Its parts: the commas within brackets belong to one."""
    return _PART.findall(node_list)


@lru_cache(maxsize=10_000)
def expand(node_list: str) -> tuple[str, ...]:
    """The nodes of Slurm's `gpu[01-03,7],login1`; the text itself if it is no such list, or a very long one."""
    nodes: list[str] = []
    parts = split(node_list)
    if ",".join(parts) != node_list:
        return (node_list,)
    for part in parts:
        pieces = _GROUP.split(part)
        groups = [_numbers(group) for group in pieces[1::2]]
        if not 0 < prod(map(len, groups)) <= _NODES_AT_MOST - len(nodes):
            return (node_list,)
        nodes += ["".join(map("".join, zip_longest(pieces[::2], chosen, fillvalue=""))) for chosen in product(*groups)]
    return tuple(dict.fromkeys(nodes))


def _numbers(group: str) -> list[str]:
    """The numbers of `01-03,7`, with their zeros; none if it is something else."""
    numbers: list[str] = []
    for part in group.split(","):
        match = _RANGE.fullmatch(part)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if not 0 <= last - first < _NODES_AT_MOST - len(numbers):
            return []
        numbers += [str(number).zfill(len(part.partition("-")[0])) for number in range(first, last + 1)]
    return numbers
