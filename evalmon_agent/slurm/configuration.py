"""What does scontrol say of the cluster's configuration: the argv, and its `Name = value` lines."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LINE = re.compile(r"(\w+)\s*=\s?(.*)")
_VERSION = re.compile(r"slurm\S*\s+(\d+)\.(\d+)\S*", re.IGNORECASE)


def argv() -> list[str]:
    """All of it."""
    return ["scontrol", "show", "config"]


def parse(text: str) -> dict[str, str]:
    """The values by their names; lines that are none are left out. `(null)` and `N/A` are empty."""
    found = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.rstrip())
        if match:
            found[match[1]] = "" if match[2] in {"(null)", "N/A"} else match[2]
    return found


def gives_whole_nodes(known: Mapping[str, str]) -> bool:
    """Whether every job takes whole nodes here (select/linear), unless its partition shares them."""
    return known.get("SelectType") == "select/linear"


def version_argv() -> list[str]:
    """Which Slurm the commands are of."""
    return ["sbatch", "--version"]


def parse_version(text: str) -> tuple[int, int] | None:
    """`slurm 24.11.5` or `slurm-wlm 22.05.8` as (24, 11)."""
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2])) if match else None
