"""What does Slurm get instead of the user's script: a launcher that runs an unchanged copy of it, monitored.

The launcher carries the script's leading comment block, so Slurm reads the same `#SBATCH` lines; it becomes
our `run` by `exec`, which runs the copy through its own shebang. Where our interpreter does not start, the copy
runs as if we were not there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evalmon_agent.words.printable import printable

# A file system that hangs under our interpreter must not hold the eval; not every node has `timeout`.
_START_TIMEOUT_S = 20

SNAPSHOT = ("snapshot", "slurm_script")
"""The unchanged copy, below `scripts/{token}`: called as slurmd calls it, for scripts that look at $0."""

# An option of sbatch alone, by which it lasts as long as the job.
_WAIT = re.compile(r"#SBATCH\s+(?:--wait|-W)\s*(?:#.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Monitored:
    """What one launcher needs to know."""

    snapshot: str
    leading_lines: Sequence[str]
    shebang: str
    monitor_dir: str
    name: str
    output_dir: str
    is_array: bool
    token: str
    interpreter: str
    sample_interval_s: float
    retry_logs: Mapping[int | None, str] = field(default_factory=dict)
    """Of an eval that is run again: its log, from which it may go on; of an array's tasks, by their number."""


def render(job: Monitored) -> str:
    """The launcher's text, in POSIX sh.

    Its comments are the user's, verbatim; every other text of the user's stands in quotes.
    """
    python = f"{shlex.quote(job.interpreter)} -E -P"
    options = f"--token {shlex.quote(job.token)} --sample-interval {job.sample_interval_s:g} --script"
    return "\n".join(
        [
            "#!/bin/sh",
            *map(_harmless, job.leading_lines),
            f"# evalmon submitted this in place of {printable(job.snapshot)}, which it runs unchanged.",
            f"EVALMON_DIR={shlex.quote(job.monitor_dir)}",
            f"EVALMON_NAME={_per_task(job.name, '[', ']', is_array=job.is_array)}",
            f"EVALMON_OUTPUT_DIR={_per_task(job.output_dir, '/', '', is_array=job.is_array)}",
            "export EVALMON_DIR EVALMON_NAME EVALMON_OUTPUT_DIR",
            *_retry_log(job.retry_logs),
            f"evalmon_limit=; command -v timeout >/dev/null 2>&1 && evalmon_limit='timeout -k 1 {_START_TIMEOUT_S}'",
            # In braces, or a shell tells in the eval's log that it died of a signal.
            f"if {{ $evalmon_limit {python} -c 'import evalmon_agent.agent.run' </dev/null; }} >/dev/null 2>&1; then",
            "  unset evalmon_limit",
            f'  exec {python} -m evalmon_agent run {options} -- {shlex.quote(job.snapshot)} "$@"',
            "fi",
            "unset evalmon_limit",
            f'exec {shlex.join([*interpreter_of(job.shebang), job.snapshot])} "$@"',
            "",
        ]
    )


def interpreter_of(shebang: str) -> list[str]:
    """The words that the kernel would run for this `#!` line: the program, and one argument at most."""
    line = shebang.removeprefix("#!").partition("\0")[0].strip(" \t\r\n")
    program = line.replace("\t", " ").partition(" ")[0]
    argument = line[len(program) :].lstrip(" \t")
    # A path, even if it has no slash: PATH is not for interpreter lines.
    found = (program if "/" in program else f"./{program}") if program else "/bin/sh"
    return [found, argument] if argument else [found]


def _harmless(line: str) -> str:
    """The line if it is a comment to a shell as well; to sbatch one of form feeds, say, is blank, to sh a command.

    `#SBATCH --wait` is taken out: nobody shall wait for each eval in turn.
    """
    if _WAIT.fullmatch(line):
        return f"#{line}"
    return line if line.lstrip(" \t").startswith("#") else ""


def _retry_log(logs: Mapping[int | None, str]) -> list[str]:
    """The lines that name the log to go on from, where there is one."""
    if None in logs:
        return [f"EVALMON_RETRY_LOG={shlex.quote(logs[None])}", "export EVALMON_RETRY_LOG"]
    cases = [f"  {task}) export EVALMON_RETRY_LOG={shlex.quote(log)} ;;" for task, log in logs.items()]
    return ["case ${SLURM_ARRAY_TASK_ID-} in", *cases, "esac"] if cases else []


def _per_task(text: str, before: str, after: str, *, is_array: bool) -> str:
    quoted = shlex.quote(text)
    return f'{quoted}"{before}${{SLURM_ARRAY_TASK_ID}}{after}"' if is_array else quoted
