"""How shells, tools and Slurm begin a line in which they complain: parts of patterns. Data."""

from __future__ import annotations

from typing import TypeAlias

Wordings: TypeAlias = tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
"""Causes with their patterns of exceptions and of lines, root causes first."""

# `script: line 3: `, `bash: line 3: `, dash's `script: 3: `.
SHELL = r"(?:(?:/[^:]*|[^\s:]+): (?:-c: )?(?:line )?\d+: |-?\w*sh: )"
# `cp: `, `/usr/bin/python3: `, or a shell.
TOOL = rf"(?:{SHELL}|[\w./+-]+: )"

# What slurmstepd prints into the job's output: `slurmstepd: error: `, with the node where several slurmd share a
# machine; since 25.05 its time instead of its name, in the form of LogTimeFormat (log_msg in src/common/log.c).
STEPD = r"(?:slurmstepd(?:-\S+)?: error: |\[[^]]{0,40}\d\d:\d\d:\d\d[^]]{0,40}\] error: )"
SLURM = rf"(?:{STEPD}|srun: error: )"

ARGPARSE = r"[\w./-]+(?: [\w-]+){0,2}: error: "
MISSING = r"^(?:FileNotFoundError|NotADirectoryError|OSError): "
