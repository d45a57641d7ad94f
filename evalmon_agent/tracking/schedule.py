"""Computes when the next poll and a sidecar's hand-over are due. Pure."""

from __future__ import annotations

MAX_BACK_OFF_S = 600.0
_JITTER = 0.1
_MARGIN_S = 120.0
_LAST_S = 10.0
_LAST_OF_LIFE = 0.05
_MARGIN_OF_LIFE = 0.2


def back_off_s(poll_interval_s: float, *, failures: int, alert_after: int, jitter: float = 0.0) -> float:
    """The wait before the next poll: doubled for each failure after the ALERT, up to ten minutes.

    `jitter`, from 0 to 1, adds up to a tenth of it, so that a thousand observers do not ask a Slurm that comes back at
    the same moment.
    """
    beyond = max(failures - alert_after, 0)
    wait_s = poll_interval_s * 2.0 ** min(beyond, 10) * (1.0 + _JITTER * jitter)
    return min(wait_s, max(MAX_BACK_OFF_S, poll_interval_s * (1.0 + _JITTER * jitter)))


def last_moment(started_at: float, ends_at: float) -> float:
    """Until when a sidecar with a successor stays: ten seconds before its end, or a twentieth of a short time limit."""
    return ends_at - min(_LAST_S, _LAST_OF_LIFE * max(ends_at - started_at, 0.0))


def hand_over_at(started_at: float, ends_at: float, poll_interval_s: float) -> float:
    """When a sidecar submits its successor: three polls, two minutes at least, before its end.

    But not before four fifths of its time limit: short limits must not make a chain of sidecars that hand over at once.
    """
    margin_s = max(3 * poll_interval_s, _MARGIN_S)
    return ends_at - min(margin_s, _MARGIN_OF_LIFE * max(ends_at - started_at, 0.0))
