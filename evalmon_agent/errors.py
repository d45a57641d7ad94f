"""The errors that a user can meet, with their exit statuses.

    EvalmonError                      1
    ├── UsageError                    2   wrong usage or input
    ├── SlurmUnavailableError        69   no Slurm, or it does not answer
    ├── LockUnavailableError         75   another writer holds the lock, or it cannot be acquired here
    ├── NoPermissionError            77   it belongs to somebody else, who does not let this user read it
    ├── UnsafeDirectoryError         77   anybody could replace the experiment
    ├── ReplacedError                77   somebody put another directory in the experiment's place
    ├── UnreadableError              78   settings or state not readable by this version
    └── StoppedError                130   a signal asked evalmon to stop

The message is one line: what is wrong, where, and what to do. STILL_ACTIVE (3) and UNVERIFIED (4) are
not errors; `status` and `report` exit with them. What is no EvalmonError ends with BUG (70), or, if it comes from the
system, with INPUT_OUTPUT (74) or NO_PERMISSION (77): never with 1, which says that an eval did not succeed.
"""

import errno
from collections.abc import Iterable

STILL_ACTIVE = 3
"""`status` and `report`: no error, but evals are active."""

UNVERIFIED = 4
"""`status` and `report`: no error, but the result of an eval could not be verified."""

BUG = 70
"""An exception that nobody expected."""

INPUT_OUTPUT = 74
"""The system could not read or write something."""

NO_PERMISSION = 77
"""The system does not let this user read or write something."""


def status_of(error: OSError) -> int:
    """The exit status of an error of the system."""
    return NO_PERMISSION if error.errno in {errno.EACCES, errno.EPERM} else INPUT_OUTPUT


def did_you_mean(word: str, known_words: Iterable[str]) -> str:
    """`; did you mean status?`, to end an error message about an unknown word; "" if no known word is similar."""
    import difflib  # noqa: PLC0415 (`evalmon run` imports this module before it starts the eval)

    similar = difflib.get_close_matches(word, known_words, n=1, cutoff=0.6)
    return f"; did you mean {similar[0]}?" if similar else ""


class EvalmonError(Exception):
    """An error with a message for the user; `exit_status` is what the command ends with.

    Several messages are several errors of one kind, such as one for each script.
    """

    exit_status = 1

    @property
    def lines(self) -> list[str]:
        """The messages, one for each problem."""
        return [str(message) for message in self.args]

    def __str__(self) -> str:
        return "; ".join(self.lines)


class UsageError(EvalmonError):
    """Wrong usage or input."""

    exit_status = 2


class SlurmUnavailableError(EvalmonError):
    """Slurm is not installed here, or gave no usable answer."""

    exit_status = 69


class LockUnavailableError(EvalmonError):
    """Another process holds the experiment's lock, or it cannot be acquired on this host."""

    exit_status = 75


class NoPermissionError(EvalmonError):
    """The files belong to somebody else, who does not let this user read them."""

    exit_status = NO_PERMISSION


class UnsafeDirectoryError(EvalmonError):
    """The experiment lies where anybody could rename or replace it."""

    exit_status = NO_PERMISSION


class ReplacedError(EvalmonError):
    """Another directory or a link has replaced the experiment's directory; nothing is read or done there."""

    exit_status = NO_PERMISSION


class UnreadableError(EvalmonError):
    """Settings or state that this version cannot read; the file is not changed."""

    exit_status = 78


class StoppedError(EvalmonError):
    """A signal asked this process to stop, so it stopped waiting."""

    exit_status = 130
