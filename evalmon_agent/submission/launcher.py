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
from collections.abc import Mapping

from evalmon_agent.slurm.sbatch import without_wait
from evalmon_agent.submission.plan import Prepared
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


def render(
    prepared: Prepared,
    *,
    monitor_dir: str,
    experiment_id: str,
    interpreter: str,
    package_parent: str,
    sample_interval_s: float,
) -> bytes:
    """The launcher, in bash: the user's own comments, and every other text in quotes.

    bash -p reads no startup file and takes no function from the environment, which goes through untouched: as the
    kernel has it (proc(5)), each entry in a variable of its own, for `evalmon run` (agent/command.py) to restore.

    Args:
        prepared: the eval or array, with its script.
        monitor_dir: EXP/evalmon, to which the job may report.
        experiment_id: of that directory; "" if it has none.
        interpreter: the Python that runs evalmon.
        package_parent: the directory in which the package evalmon_agent lies.
        sample_interval_s: between two rows of a CSV.
    """
    script, submission = prepared.script, prepared.submission
    is_array = submission.tasks is not None
    output_dir = submission.output_dir or os.path.dirname(submission.script)
    of_experiment = ["--experiment-id", experiment_id] if experiment_id else []
    options = ["--token", submission.token, *of_experiment, "--sample-interval", f"{sample_interval_s:g}"]
    head = _LAUNCHER.format(
        comments="".join(f"{_as_comment(line)}\n" for line in script.head.leading_lines),
        path=printable(submission.script),
        dir=shlex.quote(monitor_dir),
        name=_per_task(submission.name, "[", "]", is_array=is_array),
        output_dir=_per_task(output_dir, "/", "", is_array=is_array),
        retry_log="".join(f"{line}\n" for line in _retry_log(prepared.retry_logs)),
        # Nobody has looked whose log it is now.
        retry_log_variable=" EVALMON_RETRY_LOG" if prepared.retry_logs else "",
        mark=f"{_MARK}{hashlib.sha256(script.content).hexdigest()}",
        prefix=ENVIRON_PREFIX,
        timeout_s=_START_TIMEOUT_S,
        python=f"{shlex.quote(interpreter)} -E -P",
        # Not by -m, which costs 3 ms.
        program=shlex.quote(os.path.join(package_parent, "evalmon_agent", "__main__.py")),
        run=shlex.join(["run", *options, "--script", "--"]),
        script_interpreter=shlex.join(program_of(script.head.shebang or "")),
    )
    return head.encode(errors="surrogateescape") + script.content


def script_in(launcher: bytes) -> bytes | None:
    """The script that a launcher carries; None if it is not a launcher, or the script was changed."""
    mark = _MARK_LINE.search(launcher)
    script = launcher[mark.end() :] if mark else b""
    return script if mark and hashlib.sha256(script).hexdigest().encode() == mark[1] else None


def program_of(shebang: str) -> list[str]:
    """The words that the kernel would run for this `#!` line: the program, and one argument at most."""
    first_line = f"{shebang}\n".encode(errors="surrogateescape")
    program, *argument = interpreter_of(first_line[:FIRST_LINE_BYTES]) or ["/bin/sh"]
    # A path, even if it has no slash: PATH is not for interpreter lines.
    return [program if "/" in program else f"./{program}", *argument]


def _as_comment(line: str) -> str:
    """The line if it is a comment to a shell as well; to sbatch one of form feeds, say, is blank, to sh a command.

    Without `--wait`, with which sbatch would return only after the eval.
    """
    return without_wait(line) if line.lstrip(" \t").startswith("#") else ""


def _retry_log(logs: Mapping[int | None, str]) -> list[str]:
    """The lines that name the log to continue from, if there is one."""
    if None in logs:
        return [f"export EVALMON_RETRY_LOG={shlex.quote(logs[None])}"]
    cases = [f"  {task}) export EVALMON_RETRY_LOG={shlex.quote(log)} ;;" for task, log in logs.items()]
    return ["case ${SLURM_ARRAY_TASK_ID-} in", *cases, "esac"] if cases else []


def _per_task(text: str, before: str, after: str, *, is_array: bool) -> str:
    quoted = shlex.quote(text)
    return f'{quoted}"{before}${{SLURM_ARRAY_TASK_ID}}{after}"' if is_array else quoted
