"""Tests once what this mount supports: links, flock, fsync of a directory."""

from __future__ import annotations

import os

from evalmon_agent.files.lock import flock_works, marker_works
from verify_filesystem.finding import Finding


def verify(place: str) -> list[Finding]:
    """One finding for each ability; evalmon needs none of them, except for one kind of lock."""
    has_links = marker_works(place)
    return [
        Finding("flock", None, "works" if flock_works(place) else "refused; evalmon then uses a soft lock"),
        Finding("a soft lock's marker", None, "works" if has_links else "cannot be made here"),
        Finding("fsync of a directory", None, _sync(place)),
    ]


def _sync(place: str) -> str:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        return f"refused ({error.strerror}), which is tolerated"
    finally:
        os.close(descriptor)
    return "works"
