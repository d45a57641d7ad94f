"""Classifies what a failed Slurm command printed, by exit status and messages, as one of a few kinds."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass


class FailureKind(enum.Enum):
    """What a failed Slurm command means for its caller."""

    NO_NEWS = "no news"
    """Slurm does not answer for now; ask again later, conclude nothing."""
    REFUSED = "refused"
    """Slurm answered no: permissions, limits, an account or partition that may not be used."""
    INVALID_JOB = "invalid job"
    """The controller does not know the job: it was purged, or never existed."""
    ACCOUNTING_DISABLED = "accounting disabled"
    """This cluster keeps no accounting; sacct will never answer."""
    UNUSABLE = "unusable"
    """Anything else: the output must not be used."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed call of a Slurm command, with the line that says why, verbatim."""

    kind: FailureKind
    line: str


_ACCOUNTING_DISABLED = re.compile(r"accounting storage is disabled", re.IGNORECASE)
_INVALID_JOB = re.compile(r"Invalid job id", re.IGNORECASE)
_INVALID_USER = re.compile(r"Invalid user", re.IGNORECASE)
_NO_NEWS = re.compile(
    r"timed? ?out"
    r"|Unable to (?:contact|connect)"
    r"|Problem talking to the database"
    r"|persist(?:ent)?[ _]?conn"
    r"|Connection (?:refused|reset|closed)"
    r"|(?:rate limit|try again|temporarily|retrying|standby mode|no route to host)"
    r"|Zero Bytes were transmitted"
    r"|Transport endpoint is not connected"
    r"|Insane message length|Unexpected message"
    r"|Communication (?:connection|shutdown) failure|Message (?:send|receive) failure"
    r"|Protocol authentication error|munge"
    r"|configuration source|DNS SRV",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"denied|not permitted|not authorized"
    r"|Assoc\w*Limit|QOS\w*Limit|limit violat|exceed|violates"
    r"|Invalid (?:account|qos|partition|feature|generic resource|wckey|license)"
    r"|node configuration is not available|Batch job submission failed|allocation failure",
    re.IGNORECASE,
)

# `QOSMaxSubmitJobPerUserLimit`, `AssocMaxSubmitJobLimit`, `AssocGrpSubmitJobsLimit`: so many jobs may be there at
# once. The words that Slurm puts beside them, `Job violates accounting/QOS policy (job submit limit, user's size
# and/or time limits)`, say less: those stand for limits that no waiting changes, too.
_SUBMIT_LIMIT = re.compile(r"(?:Max|Grp)Submit\w*", re.IGNORECASE)

# What the controller says about the request itself, so that it says the same wherever sbatch runs; not a plugin's or
# a site's own words, nor that this host or user may not submit (slurm_errno.c, 18.08 to 26.05).
_UNFIT_REQUEST = re.compile(
    r"Batch job submission failed: (?:"
    r"Invalid (?:partition|account|qos|feature|generic resource|license|node name|wckey|job array|Trackable)"
    r"|Requested (?:node configuration|time limit|partition configuration|nodes? )"
    r"|Memory required by task|More processors requested|CPU count|Node count|Job violates accounting/QOS policy)",
    re.IGNORECASE,
)

_UNKNOWN_USER = (FailureKind.UNUSABLE, _INVALID_USER)
_NO_ANSWER = (FailureKind.NO_NEWS, _NO_NEWS)
# In this order: `Batch job submission failed: Socket timed out` is not a refusal.
_KINDS = (
    (FailureKind.ACCOUNTING_DISABLED, _ACCOUNTING_DISABLED),
    (FailureKind.INVALID_JOB, _INVALID_JOB),
    _UNKNOWN_USER,
    _NO_ANSWER,
    (FailureKind.REFUSED, _REFUSED),
)


def classify(rc: int, stdout: str, stderr: str) -> Failure | None:
    """The failure that a finished command reports, or None if its stdout is an answer.

    With exit status 0, messages on stderr are warnings, with two exceptions: an unknown user, and a lost
    connection when nothing was printed.
    """
    despite_success = (_UNKNOWN_USER,) if stdout.strip() else (_UNKNOWN_USER, _NO_ANSWER)
    lines = [line for line in stderr.splitlines() if line.strip()]
    for kind, pattern in _KINDS if rc else despite_success:
        line = next((line for line in lines if pattern.search(line)), None)
        if line is not None:
            return Failure(kind, line)
    if rc == 0:
        return None
    return Failure(FailureKind.UNUSABLE, lines[-1] if lines else f"exit status {rc}, nothing on stderr")


def is_submit_limit(words: str) -> bool:
    """Whether sbatch refused only because too many jobs are in the queue, so that it may accept the job later."""
    return _SUBMIT_LIMIT.search(words) is not None


def is_unfit_request(words: str) -> bool:
    """Whether sbatch refused what the job asks for, which no other place and no waiting changes."""
    return _UNFIT_REQUEST.search(words) is not None and not is_submit_limit(words)
