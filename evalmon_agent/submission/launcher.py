"""Renders what Slurm gets instead of the user's script: a launcher that carries the script and runs it, monitored.

The launcher has the script's leading comment block, so Slurm reads the same `#SBATCH` lines, and below its own few
lines the script itself, byte for byte. Slurm spools it, so nobody can change what runs by changing files. In the job
the launcher puts the script in its own place (slurmd's `slurm_script`, which belongs to the job's user), and becomes
`evalmon run` by `exec`, which runs it by its own first line. Where evalmon does not start, the script runs alone.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from evalmon_agent.slurm.script import without_wait
from evalmon_agent.words.printable import printable
from evalmon_agent.words.shebang import FIRST_LINE_BYTES, interpreter_of

# A file system that hangs under our interpreter must not hold the eval; not every node has `timeout`.
_START_TIMEOUT_S = 20

ENVIRON_PREFIX = "EVALMON_ENVIRON_"
"""`EVALMON_ENVIRON_7` holds the eighth entry of the environment that Slurm gave to the job."""

_MARK = "# The script, sha256 "
_MARK_LINE = re.compile(rb"^" + _MARK.encode() + rb"([0-9a-f]{64})\n", re.MULTILINE)

# `read` and `printf` are bash's own. Up to the last `exec` it is one compound command, which bash has read whole before
# the file is overwritten. The other place is not below TMPDIR, where others may write, or which may not be there.
_LAUNCHER = """\
#!/bin/bash -p
{comments}# evalmon submitted this for {path}: the script stands below unchanged, and is what runs.
{{
shopt -s execfail
evalmon_number=0
while IFS= read -r -d '' evalmon_entry; do
  export "{prefix}$evalmon_number=$evalmon_entry"
  evalmon_number=$((evalmon_number + 1))
done </proc/$$/environ
export EVALMON_DIR={dir}
export EVALMON_NAME={name}
export EVALMON_OUTPUT_DIR={output_dir}
export EVALMON_JOB_ID=${{SLURM_JOB_ID-}}
{retry_log}while IFS= read -r evalmon_entry; do
  if [ "$evalmon_entry" = '{mark}' ]; then break; fi
done <&3
IFS= read -r -d '' evalmon_script <&3
exec 3<&-
evalmon_path=$0
if [[ $0 != */slurm_script ]] || ! {{ printf %s "$evalmon_script" >"$0"; }} 2>/dev/null; then
  evalmon_path=$(command -p mktemp -d /tmp/evalmon.XXXXXXXXXX)/slurm_script
  printf %s "$evalmon_script" >"$evalmon_path" || exit
fi
evalmon_timeout=
if [ -x /usr/bin/timeout ]; then evalmon_timeout='/usr/bin/timeout -k 1 {timeout_s}'; fi
unset evalmon_entry evalmon_number evalmon_script
# shellcheck disable=SC2086 # several words, or none
if {{ $evalmon_timeout {python} {program} probe </dev/null; }} >/dev/null 2>&1; then
  exec {python} {program} {run} "$evalmon_path"
fi
unset "${{!{prefix}@}}"{retry_log_variable}
exec {script_interpreter} "$evalmon_path"
exit
}} 3<"$0"
{mark}
"""


@dataclass(frozen=True, slots=True)
class Monitored:
    """What one launcher needs to know.

    `script`: its bytes; `path`: where it lies; `leading_lines`, `shebang`: as slurm.script.read_head finds them.
    `experiment_id`: of the directory that the job may report to. `package_parent`: where evalmon lies.
    """

    script: bytes
    path: str
    leading_lines: Sequence[str]
    shebang: str
    monitor_dir: str
    name: str
    output_dir: str
    is_array: bool
    token: str
    interpreter: str
    package_parent: str
    sample_interval_s: float
    experiment_id: str = ""
    retry_logs: Mapping[int | None, str] = field(default_factory=dict)
    """Of an eval that is run again: its log, from which it may go on; of an array's tasks, by their number."""


def render(job: Monitored) -> bytes:
    """The launcher, in bash: the user's own comments, and every other text in quotes.

    bash -p reads no startup file and takes no function from the environment, which goes through untouched: as the
    kernel has it (proc(5)), each entry in a variable of its own, for `evalmon run` (agent/inherited.py) to restore.
    """
    mark = f"{_MARK}{hashlib.sha256(job.script).hexdigest()}"
    head = _LAUNCHER.format(
        comments="".join(f"{_as_comment(line)}\n" for line in job.leading_lines),
        path=printable(job.path),
        dir=shlex.quote(job.monitor_dir),
        name=_per_task(job.name, "[", "]", is_array=job.is_array),
        output_dir=_per_task(job.output_dir, "/", "", is_array=job.is_array),
        retry_log="".join(f"{line}\n" for line in _retry_log(job.retry_logs)),
        # Nobody has looked whose log it is now.
        retry_log_variable=" EVALMON_RETRY_LOG" if job.retry_logs else "",
        mark=mark,
        prefix=ENVIRON_PREFIX,
        timeout_s=_START_TIMEOUT_S,
        python=f"{shlex.quote(job.interpreter)} -E -P",
        # Not by -m, which costs 3 ms.
        program=shlex.quote(os.path.join(job.package_parent, "evalmon_agent", "__main__.py")),
        run=shlex.join(_run_words(job)),
        script_interpreter=shlex.join(program_of(job.shebang)),
    )
    return head.encode(errors="surrogateescape") + job.script


def script_in(launcher: bytes) -> bytes | None:
    """The script that a launcher carries; None if it is no launcher, or if that was changed."""
    mark = _MARK_LINE.search(launcher)
    script = launcher[mark.end() :] if mark else b""
    return script if mark and hashlib.sha256(script).hexdigest().encode() == mark[1] else None


def program_of(shebang: str) -> list[str]:
    """The words that the kernel would run for this `#!` line: the program, and one argument at most."""
    first_line = f"{shebang}\n".encode(errors="surrogateescape")
    program, *argument = interpreter_of(first_line[:FIRST_LINE_BYTES]) or ["/bin/sh"]
    # A path, even if it has no slash: PATH is not for interpreter lines.
    return [program if "/" in program else f"./{program}", *argument]


def _run_words(job: Monitored) -> list[str]:
    of_experiment = ["--experiment-id", job.experiment_id] if job.experiment_id else []
    options = ["--token", job.token, *of_experiment, "--sample-interval", f"{job.sample_interval_s:g}"]
    return ["run", *options, "--script", "--"]


def _as_comment(line: str) -> str:
    """The line if it is a comment to a shell as well; to sbatch one of form feeds, say, is blank, to sh a command.

    Without `--wait`: nobody shall wait for each eval in turn.
    """
    return without_wait(line) if line.lstrip(" \t").startswith("#") else ""


def _retry_log(logs: Mapping[int | None, str]) -> list[str]:
    """The lines that name the log to go on from, where there is one."""
    if None in logs:
        return [f"export EVALMON_RETRY_LOG={shlex.quote(logs[None])}"]
    cases = [f"  {task}) export EVALMON_RETRY_LOG={shlex.quote(log)} ;;" for task, log in logs.items()]
    return ["case ${SLURM_ARRAY_TASK_ID-} in", *cases, "esac"] if cases else []


def _per_task(text: str, before: str, after: str, *, is_array: bool) -> str:
    quoted = shlex.quote(text)
    return f'{quoted}"{before}${{SLURM_ARRAY_TASK_ID}}{after}"' if is_array else quoted
