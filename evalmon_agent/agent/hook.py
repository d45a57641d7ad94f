"""`evalmon hook`: prints the one line by which a batch script runs itself again, through `run`.

It prints `:` if there is nothing to do, and on a terminal, where nothing evals it, the line for the script. Whatever
happens, the script that evals it continues.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import NoReturn

import evalmon_agent
from evalmon_agent.errors import UsageError

from . import arguments
from .job import find_ancestor
from .run import UNMONITORED

_NOTHING = ":"
_PASTE = "evalmon hook: put this line right below the #SBATCH lines of your script:"

# `$$` is the pid of the shell, and slurmd's own child is the batch script: only that one is re-executed, by
# its own first line. `bash part.sh` inside of it is not: who knows how it was meant to be run.
_LINE = """if [ "$$" = "${{SLURM_TASK_PID-}}" ]; then exec {run} "$0" "$@"; else echo {otherwise} >&2; fi"""


def main(argv: list[str]) -> NoReturn:
    """Print the line for what `argv` (without `evalmon hook`) asks for; never returns."""
    try:
        options = arguments.parse_hook(argv)
    except UsageError as error:
        _leave(_NOTHING, message=str(error), status=error.exit_status)
    if options.wants_help:
        _leave(arguments.HOOK_HELP.rstrip("\n"))
    if os.isatty(1):
        _leave(f'eval "$({shlex.join(["evalmon", "hook", *argv])})"', message=_PASTE)
    why_not = _why_not()
    if why_not is not None:
        _leave(_NOTHING, message=why_not and f"evalmon hook: {why_not}: nothing is monitored")
    _leave(_line(options))


def _why_not() -> str | None:
    """Why the script runs on unmonitored ("" if no message is needed); None if it is to start again under `run`."""
    if not os.environ.get("SLURM_JOB_ID"):
        return "not in a Slurm job"
    try:
        ancestor = find_ancestor(os.environ["SLURM_JOB_ID"])
        is_batch = ancestor.step == "batch" if ancestor.step else "SLURM_STEP_ID" not in os.environ
        if ancestor.is_run or not is_batch or os.environ.get(UNMONITORED) == os.environ["SLURM_JOB_ID"]:
            return ""
    except OSError:
        return "/proc does not show whether this script is monitored already"
    return None if _would_start() else f"{sys.executable} -E -P does not find evalmon"


def _would_start() -> bool:
    """Whether the interpreter starts and finds evalmon when it is called as in the printed line."""
    program = [sys.executable, "-E", "-P", "-c", "import evalmon_agent.agent.run"]
    null = subprocess.DEVNULL
    try:
        return subprocess.run(program, stdin=null, stdout=null, stderr=null, check=False).returncode == 0
    except OSError:
        return False


def _line(options: arguments.Arguments) -> str:
    # Not by -m, which costs 3 ms.
    words = [sys.executable, "-E", "-P", os.path.join(os.path.dirname(evalmon_agent.__file__), "__main__.py"), "run"]
    words += [f"--name={options.name}"] if options.name else []
    words += [f"--output-dir={options.output_dir}"] if options.output_dir else []
    words += ["--script", "--"]
    otherwise = "evalmon hook: not the batch script itself: nothing is monitored"
    return _LINE.format(run=shlex.join(words), otherwise=shlex.quote(otherwise))


def _leave(answer: str, *, message: str = "", status: int = 0) -> NoReturn:
    try:
        if message:
            os.write(2, os.fsencode(message) + b"\n")
        os.write(1, os.fsencode(answer) + b"\n")
    finally:
        os._exit(status)
