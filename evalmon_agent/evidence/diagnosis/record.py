"""Why an attempt failed, as summary.json and the log have it. Pure."""

from __future__ import annotations

from msgspec import Struct

UNKNOWN = "unknown"


_BETWEEN_LINES = " ⏎ "


def one_line(evidence: str) -> str:
    """Several last lines as one."""
    return evidence.replace("\n", _BETWEEN_LINES)


class Diagnosis(Struct, frozen=True):
    """`cause` is a stable slug, whose words are in `causes.CAUSES`; `evidence` is the line that shows it.

    Of an unknown cause, `evidence` is the last lines of what the job printed.
    """

    cause: str
    evidence: str | None
    advice: str | None
