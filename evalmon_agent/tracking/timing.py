"""When is the next thing due: intervals, back-off and the hand-over of a sidecar. Pure."""

from __future__ import annotations

MAX_BACK_OFF_S = 600.0
_LEAST_MARGIN_S = 120.0


def back_off_s(poll_interval_s: float, *, failures: int, alert_after: int) -> float:
    """The wait before the next poll: doubled for each failure after the ALERT, up to ten minutes."""
    beyond = max(failures - alert_after, 0)
    return min(poll_interval_s * 2.0 ** min(beyond, 10), max(MAX_BACK_OFF_S, poll_interval_s))


def hand_over_at(ends_at: float, poll_interval_s: float) -> float:
    """When a sidecar that ends at `ends_at` submits its successor: three polls before, two minutes at least."""
    return ends_at - max(3 * poll_interval_s, _LEAST_MARGIN_S)
