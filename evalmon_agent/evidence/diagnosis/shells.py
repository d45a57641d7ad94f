"""How shells and tools begin a line in which they complain: parts of patterns. Data."""

from __future__ import annotations

from typing import TypeAlias

Wordings: TypeAlias = tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
"""Causes with their patterns of exceptions and of lines, root causes first."""

# `script: line 3: `, `bash: line 3: `, dash's `script: 3: `.
SHELL = r"(?:(?:/[^:]*|[^\s:]+): (?:-c: )?(?:line )?\d+: |-?\w*sh: )"
# `cp: `, `/usr/bin/python3: `, or a shell.
TOOL = rf"(?:{SHELL}|[\w./+-]+: )"

ARGPARSE = r"[\w./-]+(?: [\w-]+){0,2}: error: "
MISSING = r"^(?:FileNotFoundError|NotADirectoryError|OSError): "
