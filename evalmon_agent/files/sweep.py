"""Removes the temporary files that killed writers left behind, once nobody can want them."""

from __future__ import annotations

import contextlib
import os
import re
import time

OLD_AFTER_S = 900.0
"""Far longer than any write lasts, and than the clocks of two hosts differ."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


def sweep(directory: str, *, older_than_s: float = OLD_AFTER_S) -> int:
    """Remove the old temporary files in `directory`, and say how many there were.

    Call it under the lock, for directories that are ours alone. Promises: removes only what bears the name that
    `replace_atomically` gives: files, and links (not what they lead to); what else is there, or cannot be removed,
    stays, and is no error.
    """
    removed = 0
    with contextlib.suppress(OSError), os.scandir(directory) as listing:
        for entry in listing:
            if _TEMPORARY.fullmatch(entry.name) and _is_old(entry, older_than_s):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
                    removed += 1
    return removed


def _is_old(entry: os.DirEntry[str], older_than_s: float) -> bool:
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > older_than_s
    except OSError:
        return False
