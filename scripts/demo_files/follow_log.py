"""Prints EXP/evalmon/monitor.log as it grows, until the summary is complete: `follow_log.py EXP TIMEOUT_S`.

Exit status 0, or 1 if the time is up before.
"""

import json
import sys
import time
from pathlib import Path

LOOK_EVERY_S = 0.5


def main() -> int:
    """Follow; ends with the block that ends the log."""
    directory = Path(sys.argv[1]) / "evalmon"
    deadline = time.monotonic() + float(sys.argv[2])
    offset = 0
    while True:
        complete = _is_complete(directory / "summary.json")
        offset = _print_from(directory / "monitor.log", offset)
        if complete:
            return 0
        if time.monotonic() > deadline:
            return 1
        time.sleep(LOOK_EVERY_S)


def _is_complete(summary: Path) -> bool:
    try:
        return bool(json.loads(summary.read_text(encoding="utf-8"))["complete"])
    except (OSError, ValueError, KeyError):
        return False


def _print_from(log: Path, offset: int) -> int:
    try:
        with log.open("rb") as file:
            file.seek(offset)
            new = file.read()
    except OSError:
        return offset
    sys.stdout.buffer.write(new)
    sys.stdout.flush()
    return offset + len(new)


if __name__ == "__main__":
    sys.exit(main())
