"""Finds an eval that writes a log of its own in this job, by the command lines of the first few processes.

Only what it is called goes on record: command lines may hold secrets.
"""

from __future__ import annotations

# Names of the program, and the words behind it that make it write a log.
_WRITES_A_LOG = {"inspect": ("eval", "eval-set", "eval-retry"), "inspect_ai": ("eval", "eval-set", "eval-retry")}

# Below the command are its shells and launchers: what is deeper, or among very many, is not looked for.
_DEPTH = 4
_PROCESSES_AT_MOST = 50
_LOOKS_AT_MOST = 20
_BYTES = 4096


class EvalFinder:
    """Looks for it at each tick, until it is found or was not there often enough."""

    def __init__(self, root: int) -> None:
        self._looks_left = _LOOKS_AT_MOST
        self._root = root

    def look(self) -> str:
        """The name of an eval's program below `root`; "" if there is none (yet), and where it was given before."""
        if not self._looks_left:
            return ""
        self._looks_left -= 1
        program = _below(self._root)
        if program:
            self._looks_left = 0
        return program


def program_in(command_line: bytes) -> str:
    """Of a command line (words that end with NUL) the program, if it is an eval's: `inspect eval ...`.

    The program itself, or what an interpreter runs: `python .../inspect eval`, `python -m inspect_ai eval`.
    """
    words = command_line.decode("utf-8", "replace").split("\0")
    for place in range(min(len(words) - 1, 4)):
        name = words[place].rpartition("/")[2]
        if words[place + 1] in _WRITES_A_LOG.get(name, ()):
            return "inspect"
    return ""


def _below(root: int) -> str:
    level = [root]
    looked_at = 0
    for _ in range(_DEPTH):
        below: list[int] = []
        for pid in level:
            looked_at += 1
            if looked_at > _PROCESSES_AT_MOST:
                return ""
            try:
                with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
                    program = program_in(file.read(_BYTES) or b"")
                # Of many threads only the first one's children: shells and launchers have no other.
                with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
                    below += map(int, (file.read(_BYTES) or b"").split()[:_PROCESSES_AT_MOST])
            except (OSError, ValueError):
                continue
            # `run` itself has the command among its own words.
            if program and pid != root:
                return program
        level = below
    return ""
