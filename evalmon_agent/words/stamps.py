"""When was it: the time stamps that Slurm prints, as epoch seconds."""

from __future__ import annotations

import re
from datetime import datetime

# 9999-12-31: what lies behind it cannot be shown.
_LAST_S = 253_402_300_799

_EPOCH = re.compile(r"[0-9]{1,12}")


def parse_stamp(text: str) -> float | None:
    """Epoch seconds of `1700000000` (SLURM_TIME_FORMAT=%s) or of ISO 8601 with an offset.

    None for `Unknown`, `None`, `N/A`, 0 and for local time without offset: whose local time is not said.
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
