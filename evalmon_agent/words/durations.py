"""Parses Slurm's durations (seconds) and time stamps (epoch seconds), and prints durations for people."""

from __future__ import annotations

import math
import re
from datetime import datetime

from evalmon_agent.words.sizes import counted

_CLOCK = re.compile(r"(?:(\d{1,7})-)?(?:(\d{1,7}):)?(\d{1,7}):(\d{1,7}(?:\.\d{1,9})?)", re.ASCII)
_DAYS_HOURS = re.compile(r"(\d{1,7})-(\d{1,7})", re.ASCII)
_MINUTES = re.compile(r"\d{1,10}", re.ASCII)
_TIME_OPTION = re.compile(r"(?:(\d{1,7})-)?(\d{1,7}(?::\d{1,7}){0,2})?|(\d{1,10})", re.ASCII)

# 9999-12-31: what lies behind it cannot be shown.
_LAST_S = 253_402_300_799

_EPOCH = re.compile(r"[0-9]{1,12}")

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86400
_LONGEST_S = 1e10


def parse(text: str) -> float | None:
    """Seconds of `D-HH:MM:SS`, `HH:MM:SS`, `MM:SS`, `MM:SS.mmm` or `D-HH`.

    None for everything else: `UNLIMITED`, `Partition_Limit`, `INVALID`, `NOT_SET`, `Unknown`, nothing.
    """
    text = text.strip()
    if match := _DAYS_HOURS.fullmatch(text):
        return float(int(match[1]) * _DAY_S + int(match[2]) * _HOUR_S)
    match = _CLOCK.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes = (int(part or 0) for part in match.group(1, 2, 3))
    return days * _DAY_S + hours * _HOUR_S + minutes * _MINUTE_S + float(match[4])


def limit_minutes(text: str) -> float | None:
    """Seconds of sacct's TimelimitRaw, which is whole minutes; None for `UNLIMITED` and the like."""
    text = text.strip()
    return float(int(text) * _MINUTE_S) if _MINUTES.fullmatch(text) else None


def time_option(text: str) -> float | None:
    """Seconds of sbatch's `--time`, as Slurm will hold it; None for no limit or what sbatch refuses.

    `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`; seconds are rounded up to the minute, 0 is no limit.
    """
    match = _TIME_OPTION.fullmatch(text)
    if match is None or not text:
        return None
    days, *clock = match.groups(default="")
    parts = [int(part) for part in "".join(clock).split(":") if part]
    units_s = (_HOUR_S, _MINUTE_S, 1) if days or len(parts) == 3 else (_MINUTE_S, 1)
    seconds = int(days or 0) * _DAY_S + sum(part * unit_s for part, unit_s in zip(parts, units_s, strict=False))
    return float(math.ceil(seconds / _MINUTE_S) * _MINUTE_S) or None


def parse_stamp(text: str) -> float | None:
    """Epoch seconds of `1700000000` (SLURM_TIME_FORMAT=%s) or of ISO 8601 with an offset.

    None for `Unknown`, `None`, `N/A`, 0, and for local time without an offset, since its zone is unknown.
    """
    text = text.strip()
    if _EPOCH.fullmatch(text):
        seconds = int(text)
        return float(seconds) if 0 < seconds <= _LAST_S else None
    try:
        stamp = datetime.fromisoformat(text)
        return stamp.timestamp() if stamp.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def iso(at: float | None) -> str | None:
    """ISO 8601 in local time with its offset; None also for a time outside the calendar."""
    if at is None:
        return None
    try:
        return datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return None


def first_known(*values: float | None) -> float | None:
    """The first that is not None."""
    for value in values:
        if value is not None:
            return value
    return None


def clock(seconds: float | None) -> str:
    """`00:04:52`, from a day on `1-02:04:52`, as seff prints it; `unknown` for None and for what cannot be."""
    parts = _split(seconds)
    if parts is None:
        return "unknown"
    days, hours, minutes, rest = parts
    return f"{f'{days}-' if days else ''}{hours:02}:{minutes:02}:{rest:02}"


def human(seconds: float | None) -> str:
    """`52s`, `4m 52s`, `1h 4m 52s`, `1d 0h 4m 52s`; `unknown` for None."""
    parts = _split(seconds)
    if parts is None:
        return "unknown"
    first = next((i for i, part in enumerate(parts) if part), len(parts) - 1)
    return " ".join(f"{part}{unit}" for part, unit in list(zip(parts, "dhms", strict=True))[first:])


def total(seconds: float | None) -> str:
    """`15 minutes`, `1 minute`, `2 hours 5 minutes`, `1 day 2 hours`; `unknown` for None.

    Whole minutes, rounded down; below a minute seconds, `52 seconds`.
    """
    parts = _split(seconds)
    if parts is None:
        return "unknown"
    named = list(zip(parts, ("day", "hour", "minute", "second"), strict=True))
    whole_minutes = [counted(number, unit) for number, unit in named[:3] if number]
    return " ".join(whole_minutes) or counted(*named[3])


def _split(seconds: float | None) -> tuple[int, int, int, int] | None:
    """None too for what cannot be: negative, infinite, NaN, or above 300 years."""
    if seconds is None or not 0 <= seconds <= _LONGEST_S:
        return None
    days, rest = divmod(int(seconds), _DAY_S)
    return days, rest // _HOUR_S, rest % _HOUR_S // _MINUTE_S, rest % _MINUTE_S
