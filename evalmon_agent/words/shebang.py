"""Parses the first line of a script as the kernel does. Needs the standard library only: the agent imports it."""

from __future__ import annotations

import os

FIRST_LINE_BYTES = 256
"""So much of a script's first line the kernel looks at (BINPRM_BUF_SIZE)."""


def interpreter_of(start: bytes) -> list[str]:
    """The interpreter and its one argument, if any, from a script's first 256 bytes; empty if they name none.

    As load_script in the kernel's fs/binfmt_script.c: everything behind the first blank is one argument.
    """
    if not start.startswith(b"#!"):
        return []
    first, newline, _ = start[2:].partition(b"\n")
    line = first.partition(b"\0")[0].strip(b" \t")
    program = line.replace(b"\t", b" ").partition(b" ")[0]
    argument = line[len(program) :].lstrip(b" \t")
    is_cut_off = len(start) == FIRST_LINE_BYTES and not newline and not argument
    if not program or is_cut_off:
        return []
    return [os.fsdecode(program), *([os.fsdecode(argument)] if argument else [])]
