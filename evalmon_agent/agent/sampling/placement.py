"""Which files are this node's? Pure: from the environment.

One sampler per node: of a step's tasks on a node, the first (companion.py). The batch script runs on the first node
of the job, whose files have the plain names; SLURM_NODEID would not tell, for in a step it counts the step's nodes.
"""

from __future__ import annotations

from collections.abc import Mapping


def host_suffix(environ: Mapping[str, str], *, hostname: str) -> str:
    """What stands before `.csv` in the names: empty on the first or only node, else `.<host>`."""
    nodes = environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST") or ""
    node = environ.get("SLURMD_NODENAME") or hostname
    if not environ.get("SLURM_JOB_ID") or not nodes or node == first_of(nodes):
        return ""
    return "." + "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in node[:200])


def first_of(nodes: str) -> str:
    """The first host of a list as Slurm prints it: `n[01-03,7],m1` gives `n01`, `r[1-2]n[3-4]` gives `r1n3`."""
    first = ""
    in_brackets, is_skipping = False, False
    for character in nodes:
        if character == "," and not in_brackets:
            break
        if character in "[]":
            in_brackets, is_skipping = character == "[", False
        elif in_brackets and character in "-,":
            is_skipping = True
        elif not is_skipping:
            first += character
    return first
