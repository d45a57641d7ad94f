"""Tests which notifications are due for which target, and when."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from evalmon_agent.files.lock import Holder, this_host
from evalmon_agent.notify.deliver import (
    Began,
    Ended,
    Failed,
    Journal,
    Occurred,
    Sent,
    began,
    encode,
    is_within,
    targets_of,
)
from evalmon_agent.settings import NotifyTarget, Settings
from evalmon_agent.summary.notifications import Notification
from experiments import Exp

URL = "json://me:swordfish@127.0.0.1/"
NOON = time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))
NIGHT = time.mktime((2026, 11, 26, 23, 30, 0, 0, 0, -1))
SETTINGS = Settings(notify=[URL, NotifyTarget(URL, events=["complete"], quiet="22:00-07:00")], notify_command=["x"])
FIRST, SECOND, COMMAND = targets_of(SETTINGS)


@pytest.fixture
def exp(tmp_path: Path) -> Exp:
    exp = Exp(tmp_path)
    exp.register(r1_a="11")
    return exp


def note(key: str, event: str = "failed") -> Notification:
    return Notification(
        id=key,
        event=event,
        experiment="/x",
        at="",
        title=key,
        text="",
        level="info",
        evals=[],
        summary="",  # type: ignore[arg-type]
    )


def ids(journal: Journal, target: object, **more: object) -> list[str]:
    return [notification.id for notification in journal.read().due(target, **{"now": NOON, **more})]  # type: ignore[arg-type]


def test_a_targets_name_has_no_url() -> None:
    assert [target.label for target in (FIRST, SECOND, COMMAND)] == [
        "notify[0] (json)",
        "notify[1] (json)",
        "notify_command",
    ]
    [bare] = targets_of(Settings(notify=["swordfish"]))
    assert bare.label == "notify[0]"


def test_a_sent_notification_is_not_due_and_targets_are_independent(exp: Exp) -> None:
    journal = Journal(exp.experiment)
    journal.append(Occurred(note("a"), ["notify[0]", "notify_command"]), Occurred(note("b"), ["notify[0]"]))
    journal.append(Sent("a", "notify[0]", NOON))
    assert (ids(journal, FIRST), ids(journal, COMMAND), ids(journal, SECOND)) == (["b"], ["a"], [])


def test_a_repeated_event_counts_once(exp: Exp) -> None:
    journal = Journal(exp.experiment)
    journal.append(Occurred(note("a"), ["notify[0]"]))
    journal.append(Sent("a", "notify[0]", NOON), Occurred(note("a"), ["notify[0]"]))
    assert ids(journal, FIRST) == []


def test_an_event_is_sent_only_to_targets_that_chose_it(exp: Exp) -> None:
    journal = Journal(exp.experiment)
    owed = journal.outbox(None, [note("a"), note("b", "complete")], [FIRST, SECOND])
    assert owed is not None
    (exp.ours / "notifications.jsonl").write_text(owed.text)
    assert (ids(journal, FIRST), ids(journal, SECOND)) == (["a", "b"], ["b"])
    assert journal.outbox(None, [note("a")], [SECOND]) is None


def test_a_torn_line_affects_no_other(exp: Exp) -> None:
    path = exp.ours / "notifications.jsonl"
    whole = encode([Occurred(note("a"), ["notify[0]"])])
    path.write_bytes(whole[: len(whole) // 2])
    journal = Journal(exp.experiment)
    owed = journal.outbox(None, [note("b")], [FIRST])
    assert owed is not None
    with path.open("a") as file:
        file.write(owed.text)
    assert ids(journal, FIRST) == ["b"]


def test_a_failing_target_is_retried_at_growing_intervals_but_not_by_another_hosts_failures(exp: Exp) -> None:
    journal = Journal(exp.experiment)
    journal.append(Occurred(note("a"), ["notify[0]"]))
    for pause_s in (60, 120, 240, 480, 960, 1800, 1800):
        journal.append(Failed("notify[0]", NOON, this_host(), "it is away"))
        assert ids(journal, FIRST, now=NOON + pause_s - 1) == []
        assert ids(journal, FIRST, now=NOON + pause_s) == ["a"]
        assert ids(journal, FIRST, is_last_try=True) == ["a"]
        assert journal.failing([FIRST, COMMAND]) == {"notify[0] (json)": "it is away"}
    journal.append(Failed("notify[0]", NOON, "another-host", "it is away"))
    assert ids(journal, FIRST) == ["a"]
    journal.append(Sent("a", "notify[0]", NOON))
    assert journal.read().failing([FIRST]) == {}


def test_in_quiet_hours_nothing_is_sent_unless_the_experiment_is_complete(exp: Exp) -> None:
    journal = Journal(exp.experiment)
    journal.append(Occurred(note("a"), ["notify[0]", "notify[1]"]))
    assert (ids(journal, FIRST, now=NIGHT), ids(journal, SECOND, now=NIGHT)) == (["a"], [])
    assert ids(journal, SECOND, now=NOON) == ["a"]
    journal.append(Occurred(note("b", "complete"), ["notify[1]"]))
    assert ids(journal, SECOND, now=NIGHT) == ["a", "b"]


@pytest.mark.parametrize(
    ("hours", "at", "expected"),
    [
        ("22:00-07:00", "21:59", False),
        ("22:00-07:00", "22:00", True),
        ("22:00-07:00", "06:59", True),
        ("22:00-07:00", "07:00", False),
        ("09:00-17:00", "12:00", True),
        ("09:00-17:00", "17:00", False),
        ("00:00-00:00", "12:00", True),
    ],
)
def test_quiet_hours_may_include_midnight(hours: str, at: str, expected: bool) -> None:
    hour, _, minute = at.partition(":")
    assert is_within(hours, time.mktime((2026, 11, 26, int(hour), int(minute), 0, 0, 0, -1))) is expected


def test_one_process_sends_at_a_time_and_a_killed_one_is_not_waited_for(exp: Exp) -> None:
    journal = Journal(exp.experiment)
    assert not journal.read().is_sending(NOON)
    journal.append(began(NOON))
    assert journal.read().is_sending(NOON + 10_000)
    journal.append(Ended(NOON))
    assert not journal.read().is_sending(NOON)
    journal.append(Began(Holder(4_000_000, this_host(), 1).text.decode(), NOON))
    assert not journal.read().is_sending(NOON)
    journal.append(Began(Holder(1, "another-host", 1).text.decode(), NOON))
    assert journal.read().is_sending(NOON + 700)
    assert not journal.read().is_sending(NOON + 800)
