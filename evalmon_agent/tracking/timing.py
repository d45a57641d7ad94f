"""When is the next thing due: intervals, back-off and the hand-over of a sidecar. Pure."""

from __future__ import annotations

MAX_BACK_OFF_S = 600.0
_MARGIN_S = 120.0
_MARGIN_OF_LIFE = 0.2


def back_off_s(poll_interval_s: float, *, failures: int, alert_after: int) -> float:
    """The wait before the next poll: doubled for each failure after the ALERT, up to ten minutes."""
    beyond = max(failures - alert_after, 0)
    return min(poll_interval_s * 2.0 ** min(beyond, 10), max(MAX_BACK_OFF_S, poll_interval_s))


def hand_over_at(started_at: float, ends_at: float, poll_interval_s: float) -> float:
    """When a sidecar submits its successor: three polls, two minutes at least, before its end.

    But not before four fifths of its life: a short limit must not make a chain of sidecars that hand on at once.
    """
    margin_s = max(3 * poll_interval_s, _MARGIN_S)
    return ends_at - min(margin_s, _MARGIN_OF_LIFE * max(ends_at - started_at, 0.0))
