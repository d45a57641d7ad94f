"""Waits until the summary is complete, and prints the log as it grows: `follow_log.py EXP TIMEOUT_S [--quiet]`.

Exit status 0, or 1 if the time is up before.
"""

import json
import sys
import time
from pathlib import Path

LOOK_EVERY_S = 0.5


def main() -> int:
    """Follow to the end of the log."""
    is_quiet = "--quiet" in sys.argv
    directory = Path(sys.argv[1]) / "evalmon"
    deadline = time.monotonic() + float(sys.argv[2])
    offset = 0
    while True:
        complete = _is_complete(directory / "summary.json")
        if not is_quiet:
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
