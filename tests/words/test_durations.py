"""Tests the parsing of Slurm's durations and the three ways of printing durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.words.durations import clock, human, limit_minutes, parse, time_option, total

DAY_S = 86400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("15-13:31:28", 1_344_688),
        ("451-06:00:24", 38_988_024),
        ("01:27:29", 5249),
        ("12:04.972", 724.972),
        ("00:00.007", 0.007),
        ("0:05", 5),
        ("1-03", DAY_S + 3 * 3600),
        ("100:00:00", 360_000),
        (" 00:30 ", 30),
    ],
)
def test_slurms_durations_are_parsed_as_seconds(text: str, expected: float) -> None:
    assert expected == pytest.approx(parse(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UNLIMITED",
        "Partition_Limit",
        "INVALID",
        "NOT_SET",
        "Unknown",
        "5",
        "-1:00",
        "1:2:3:4",
        "1-",
        "\u0661:00",
    ],
)
def test_other_text_is_none(text: str) -> None:
    assert None is parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("120", 7200), ("0", 0), ("UNLIMITED", None), ("Partition_Limit", None), ("", None), ("1:00", None)],
)
def test_the_raw_time_limit_is_parsed_as_minutes(text: str, expected: float | None) -> None:
    assert expected == limit_minutes(text)


# As sbatch 22.05 understood each of them (`sbatch -vv --time=...`).
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 300),
        ("0:30", 60),
        ("1:30", 120),
        ("1:99", 180),
        ("1:2:3", 3780),
        ("1-2", 93_600),
        ("1-2:3", 93_780),
        ("1-2:3:4", 93_840),
        ("90:00", 5400),
        ("1-", DAY_S),
        ("0", None),
        ("0:0", None),
        ("-1", None),
        ("UNLIMITED", None),
        ("infinite", None),
        ("5.5", None),
        ("1:2:3:4", None),
        ("1-2:3:4:5", None),
        ("5m", None),
        (" 5", None),
    ],
)
def test_a_time_option_is_rounded_as_slurm_does(text: str, expected: float | None) -> None:
    assert expected == time_option(text)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(292, "00:04:52"), (0, "00:00:00"), (5262.9, "01:27:42"), (DAY_S + 3, "1-00:00:03"), (None, "unknown")],
)
def test_clock_prints_like_seff(seconds: float | None, expected: str) -> None:
    assert expected == clock(seconds)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (292, "4m 52s"),
        (3892, "1h 4m 52s"),
        (52, "52s"),
        (0, "0s"),
        (3600, "1h 0m 0s"),
        (DAY_S + 292, "1d 0h 4m 52s"),
        (None, "unknown"),
    ],
)
def test_human_prints_elapsed_times_of_the_log(seconds: float | None, expected: str) -> None:
    assert expected == human(seconds)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (900, "15 minutes"),
        (60, "1 minute"),
        (119, "1 minute"),
        (7500, "2 hours 5 minutes"),
        (7200, "2 hours"),
        (52, "52 seconds"),
        (1, "1 second"),
        (0, "0 seconds"),
        (DAY_S, "1 day"),
        (2 * DAY_S + 300, "2 days 5 minutes"),
        (None, "unknown"),
    ],
)
def test_total_prints_part_of_a_sentence(seconds: float | None, expected: str) -> None:
    assert expected == total(seconds)


@given(st.integers(0, 10**9))
def test_a_printed_clock_is_parsed_back(seconds: int) -> None:
    assert seconds == parse(clock(seconds))


@given(st.one_of(st.none(), st.floats()))
def test_printing_accepts_any_number(seconds: float | None) -> None:
    for printer in (clock, human, total):
        assert not printer(seconds).startswith("-")


@given(st.text(alphabet="0123456789:-. ", max_size=20))
def test_parsing_never_raises_or_returns_a_negative_duration(text: str) -> None:
    for reader in (parse, limit_minutes, time_option):
        assert (reader(text) or 0) >= 0


@given(st.text())
def test_parsing_never_raises(text: str) -> None:
    for reader in (parse, limit_minutes, time_option):
        reader(text)
