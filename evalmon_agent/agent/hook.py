"""`evalmon hook`: prints the one line by which a batch script runs itself again, through `run`.

It prints `:` where there is nothing to do, and whatever happens, the script that evals it goes on.
"""

import os
import sys

import evalmon_agent
from evalmon_agent.errors import UsageError

from . import arguments
from .ancestry import look_above
from .run import UNMONITORED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_NOTHING = ":"

# `$$` is the pid of the shell, and slurmd's own child is the batch script: only that one is re-executed, by
# its own first line. `bash part.sh` inside of it is not: who knows how it was meant to be run.
_LINE = """if [ "$$" = "${{SLURM_TASK_PID-}}" ]; then exec {run} "$0" "$@"; else echo {otherwise} >&2; fi"""


def main(argv: list[str]) -> "NoReturn":
    """Print the line for what `argv` (without `evalmon hook`) asks for; never returns."""
    try:
        asked = arguments.parse_hook(argv)
    except UsageError as error:
        _leave(_NOTHING, message=str(error), status=error.exit_status)
    if asked.wants_help:
        _leave(arguments.HOOK_HELP.rstrip("\n"))
    why_not = _why_not()
    if why_not is not None:
        _leave(_NOTHING, message=why_not and f"evalmon hook: {why_not}: nothing is monitored")
    _leave(_line(asked))


def _why_not() -> str | None:
    """Why the script shall go on as it is, "" if that needs no word; None if it shall start over."""
    if not os.environ.get("SLURM_JOB_ID"):
        return "not in a Slurm job"
    try:
        above = look_above(os.environ["SLURM_JOB_ID"])
        is_batch = above.step == "batch" if above.step else "SLURM_STEP_ID" not in os.environ
        if above.is_run or not is_batch or os.environ.get(UNMONITORED) == os.environ["SLURM_JOB_ID"]:
            return ""
    except OSError:
        return "/proc does not tell whether this script is monitored already"
    return None if _would_start() else f"{sys.executable} -E -P does not find evalmon"


def _would_start() -> bool:
    """Whether our interpreter starts and finds us in just the way the line will call it."""
    program = [sys.executable, "-E", "-P", "-c", "import evalmon_agent.agent.run"]
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, descriptor) for descriptor in range(3)]
    try:
        _, status = os.waitpid(os.posix_spawn(program[0], program, os.environ, file_actions=actions), 0)
    except OSError:
        return False
    return status == 0


def _line(asked: arguments.Arguments) -> str:
    # Not by -m, which costs 3 ms.
    words = [sys.executable, "-E", "-P", os.path.join(os.path.dirname(evalmon_agent.__file__), "__main__.py"), "run"]
    if asked.name:
        words += ["--name", asked.name]
    if asked.output_dir:
        words += ["--output-dir", asked.output_dir]
    words += ["--script", "--"]
    otherwise = "evalmon hook: not the batch script itself: nothing is monitored"
    return _LINE.format(run=" ".join(map(_quoted, words)), otherwise=_quoted(otherwise))


def _quoted(word: str) -> str:
    """As shlex.quote, which costs 8 ms to import."""
    return "'" + word.replace("'", "'\"'\"'") + "'"


def _leave(answer: str, *, message: str = "", status: int = 0) -> "NoReturn":
    try:
        if message:
            os.write(2, os.fsencode(message) + b"\n")
        os.write(1, os.fsencode(answer) + b"\n")
    finally:
        os._exit(status)
