"""Tests when the next poll and the next sidecar are due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.monitor.hand_over import hand_over_at
from evalmon_agent.monitor.poll import MAX_BACK_OFF_S, back_off_s


@pytest.mark.survives("S14")
@pytest.mark.parametrize(
    ("failures", "expected"), [(0, 60), (5, 60), (6, 120), (7, 240), (8, 480), (9, 600), (99, 600)]
)
def test_the_wait_doubles_only_after_the_alert_and_up_to_ten_minutes(failures: int, expected: float) -> None:
    assert expected == back_off_s(60.0, failures=failures, alert_after=5)


@pytest.mark.survives("S14")
def test_an_interval_above_ten_minutes_is_never_shortened() -> None:
    assert 3600 == back_off_s(3600.0, failures=50, alert_after=5)


@pytest.mark.survives("S14")
@given(st.floats(1, 86_400), st.integers(0, 10_000), st.integers(1, 100))
def test_the_wait_is_never_below_the_interval_and_bounded(interval_s: float, failures: int, alert_after: int) -> None:
    assert (
        interval_s
        <= back_off_s(interval_s, failures=failures, alert_after=alert_after)
        <= max(MAX_BACK_OFF_S, interval_s)
    )


@pytest.mark.survives("F19")
@pytest.mark.parametrize(
    ("life_s", "interval_s", "margin_s"),
    [(86_400, 60, 180), (86_400, 10, 120), (86_400, 600, 1800), (300, 60, 60), (0, 60, 0), (-5, 60, 0)],
)
def test_a_sidecar_hands_over_late_but_before_its_time_limit(life_s: float, interval_s: float, margin_s: float) -> None:
    assert 1000 + life_s - margin_s == hand_over_at(1000.0, 1000.0 + life_s, interval_s)
