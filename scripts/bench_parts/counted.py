"""Counts calls of Slurm's commands, by wrappers that are first on PATH."""

import os
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

COMMANDS = ("squeue", "sacct", "sinfo", "sbatch", "scontrol", "scancel")
_WRAPPER = """#!/bin/sh
ids=0 before=
for word; do
  [ "$before" != -j ] || ids=$(($(printf %s "$word" | tr -cd , | wc -c) + 1))
  before=$word
done
printf '%s %s %s\\n' "$(date +%s.%N)" {name} "$ids" >>{log}
exec {real} "$@"
"""


@dataclass(frozen=True)
class Call:
    """One call: its start (epoch), its program, and how many ids it named after -j."""

    at: float
    name: str
    ids: int


class Counted:
    """Wrappers in `directory`, and the calls that they recorded."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        directory.mkdir()
        self._log = directory / "calls"
        self._log.touch()
        for name in COMMANDS:
            real = shutil.which(name, path=environ["PATH"])
            wrapper = directory / name
            wrapper.write_text(_WRAPPER.format(name=name, log=self._log, real=real))
            wrapper.chmod(0o755)
        self.environ = {**environ, "PATH": f"{directory}{os.pathsep}{environ['PATH']}"}

    def calls(self) -> list[Call]:
        """All calls so far, oldest first."""
        lines = [line.split() for line in self._log.read_text().splitlines()]
        return [Call(float(at), name, int(ids)) for at, name, ids in lines]


def by_name(calls: list[Call]) -> dict[str, int]:
    """The number of calls of each command."""
    return dict(Counter(call.name for call in calls))
