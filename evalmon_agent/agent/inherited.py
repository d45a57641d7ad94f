"""What this process was given and the command shall be given in turn, though Python has changed it since.

Python at its start ignores SIGPIPE and SIGXFSZ, and in the C locale it puts LC_CTYPE into its own environment
(PEP 538). `run` itself holds all signals back (signals.py). None of that is the command's business.
"""

import os

from .light import signal

_SHELLS = frozenset({"sh", "bash", "dash", "ash", "busybox", "ksh", "ksh93", "mksh", "zsh"})

# As submission/launcher.py, which this room does not know, writes them.
_ENTRY = b"EVALMON_ENVIRON_"
_ADDED = (b"EVALMON_DIR", b"EVALMON_NAME", b"EVALMON_OUTPUT_DIR", b"EVALMON_JOB_ID")
_RETRY_LOG = b"EVALMON_RETRY_LOG"


class Inherited:
    """Environment, signal mask, and the signals whose default action has to be restored."""

    __slots__ = ("environment", "mask", "to_default")

    def __init__(self, mask: set[int]) -> None:
        self.mask = mask
        self.environment = _environment()
        self.to_default = {signal.SIGXFSZ} if _was_told_to_ignore_sigpipe() else {signal.SIGXFSZ, signal.SIGPIPE}


def _environment() -> dict[bytes, bytes]:
    """The environment as execve handed it over (proc(5): environ does not follow putenv).

    Below evalmon's launcher it is the one that Slurm gave to that, entry by entry, and what the launcher adds.
    """
    try:
        with open("/proc/self/environ", "rb", buffering=0) as file:
            environment = _parsed(file.readall().split(b"\0"))
    except OSError:
        environment = dict(os.environb)
    entries: list[bytes] = []
    while (entry := environment.get(b"%s%d" % (_ENTRY, len(entries)))) is not None:
        entries.append(entry)
    if not entries:
        return environment
    given = _parsed(entries)
    added = {name: environment[name] for name in _ADDED if name in environment}
    log = environment.get(_RETRY_LOG)
    if log is not None and log != given.get(_RETRY_LOG) and _is_own(log):
        added[_RETRY_LOG] = log
    return given | added


def _is_own(path: bytes) -> bool:
    """Whether what lies there now is still a file of ours: an eval goes on from no log that somebody else put there."""
    try:
        from evalmon_agent.files.trusted import open_file  # noqa: PLC0415 (seldom needed)

        os.close(open_file(os.fsdecode(path), owner=os.geteuid()))
    except (OSError, ImportError):
        return False
    return True


def _parsed(entries: "list[bytes]") -> dict[bytes, bytes]:
    environment: dict[bytes, bytes] = {}
    for entry in entries:
        name, equals, value = entry.partition(b"=")
        if name and equals:
            environment.setdefault(name, value)  # of two, getenv(3) finds the first
    return environment


def _was_told_to_ignore_sigpipe() -> bool:
    """Whether SIGPIPE was ignored before Python ignored it, which only the parent can tell.

    A shell ignores what its children shall ignore. Other parents may ignore it for themselves alone (Python,
    strace), and slurmstepd gives its tasks the default action (_unblock_signals in slurmstepd/mgr.c).
    """
    parent = f"/proc/{os.getppid()}"
    try:
        if os.path.basename(os.readlink(f"{parent}/exe")) not in _SHELLS:
            return False
        with open(f"{parent}/status", "rb", buffering=0) as file:
            status = file.readall()
        ignored = int(status.partition(b"\nSigIgn:")[2].split(maxsplit=1)[0], 16)
    except (OSError, ValueError, IndexError):
        return False
    return bool(ignored >> (signal.SIGPIPE - 1) & 1)
