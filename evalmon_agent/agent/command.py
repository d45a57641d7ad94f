"""Finds which program the command is, and starts it: as our child, or in our place."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from evalmon_agent.words.shebang import FIRST_LINE_BYTES, interpreter_of

from .inherited import Inherited
from .proc import own_cgroups

_SHELL = "/bin/sh"


@dataclass(frozen=True, slots=True)
class Command:
    """A program (a path, or a name to be looked up in PATH) and its argv."""

    program: str
    argv: list[str]

    def spawn(self, inherited: Inherited, *, leads_group: bool = False) -> int:
        """Start it as our child, exactly as it would have been in our place; returns its pid.

        `leads_group`: of a process group of its own, see may_lead_a_group.

        One trace of posix_spawn: glibc's two internal signals (32, 33) are ignored in it, which glibc
        undoes itself.

        Raises:
            OSError: it is not there, is no program, or there is no room for a process.
        """
        group: dict[str, Any] = {"setpgroup": 0} if leads_group else {}
        try:
            return os.posix_spawnp(
                self.program,
                self.argv,
                inherited.environment,
                setsigmask=inherited.mask,
                setsigdef=inherited.to_default,
                **group,
            )
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            return self._for_the_shell().spawn(inherited, leads_group=leads_group)

    def replace_us(self, inherited: Inherited) -> NoReturn:
        """Become the command: it runs as if we had never been there.

        Raises:
            OSError: as spawn.
        """
        for number in inherited.to_default:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, inherited.mask)
        try:
            os.execvpe(self.program, self.argv, inherited.environment)  # noqa: S606 (an argv, no shell)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            self._for_the_shell().replace_us(inherited)

    def _for_the_shell(self) -> Command:
        """A file that is neither a binary nor names an interpreter is the shell's (execvp(3))."""
        import shutil  # noqa: PLC0415 (imports the compressors, seldom needed)

        path = shutil.which(self.program) or self.program
        return Command(_SHELL, [_SHELL, path, *self.argv[1:]])


def from_words(words: list[str]) -> Command:
    """The command as it was given.

    Raises:
        OSError: its name is empty (posix_spawn of Python's would say ValueError).
    """
    if not words[0]:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return Command(words[0], words)


def from_script(words: list[str]) -> Command:
    """The script `words[0]` run by its own first line, as the kernel would; its mode does not matter.

    Raises:
        OSError: the script cannot be read.
    """
    with open(words[0], "rb", buffering=0) as file:
        start = file.read(FIRST_LINE_BYTES) or b""
    interpreter = interpreter_of(start) or [_SHELL]
    # A path, even if it has no slash: PATH is not for interpreter lines.
    program = interpreter[0] if "/" in interpreter[0] else f"./{interpreter[0]}"
    return Command(program, [*interpreter, *words])


def may_lead_a_group(job_id: int) -> bool:
    """Whether the command may lead a process group, as the batch script does that slurmstepd starts.

    Scripts end what they started by `kill -- -$$` or `kill 0`; without us their pid is their group's. But a group of
    its own takes the command out of ours, and by that group proctrack/pgid would find it. So: only where we lead a
    group in place of the batch script, in a job that Slurm tracks by its cgroup.
    """
    if os.getpgrp() != os.getpid():
        return False
    try:
        return is_tracked(own_cgroups(), job_id=job_id)
    except OSError:
        return False


def is_tracked(cgroups: Mapping[str, str], *, job_id: int) -> bool:
    """Whether these cgroups of ours are the job's. proctrack/cgroup is the freezer of v1; on v2 there is but one."""
    return any(f"/job_{job_id}/" in f"{cgroups.get(name, '')}/" for name in ("freezer", ""))
