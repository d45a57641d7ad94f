"""Sends one notification by Apprise: `{url, title, text, level}` on stdin; the exit status says what came of it.

A program of its own: importing Apprise takes half a second and 20 MB, and what it prints may hold the URL.
"""

from __future__ import annotations

import json
import sys

FAILED, NO_APPRISE, UNKNOWN_URL = 1, 3, 4


def main() -> int:
    """Send it; 0 if it was sent."""
    try:
        import apprise  # noqa: PLC0415 - the extra `notify`
    except ImportError:
        return NO_APPRISE
    message = json.load(sys.stdin)
    target = apprise.Apprise()
    if not target.add(message["url"]):
        return UNKNOWN_URL
    kind = {"warning": apprise.NotifyType.WARNING, "error": apprise.NotifyType.FAILURE}
    is_sent = target.notify(
        title=message["title"],
        body=message["text"],
        notify_type=kind.get(message["level"], apprise.NotifyType.INFO),
        body_format=apprise.NotifyFormat.TEXT,
    )
    return 0 if is_sent else FAILED


if __name__ == "__main__":
    sys.exit(main())
