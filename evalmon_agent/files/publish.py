"""Creates a file that never changes; if two processes create it at once, one succeeds and both find it complete."""

from __future__ import annotations

import os
from contextlib import suppress

from evalmon_agent.files.lock import flock_works, held
from evalmon_agent.files.marker import NO_LINKS, no_lock
from evalmon_agent.files.replace import replace_atomically, write_beside


def publish(path: str, data: bytes) -> bool:
    """Create the file, complete and on disk; False if it exists already.

    Raises:
        LockUnavailableError: there are neither hard links nor flock.
        OSError: the file system says so.
    """
    temporary = write_beside(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _publish_under_flock(path, data)
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    return True


def _publish_under_flock(path: str, data: bytes) -> bool:
    """The same without hard links. If flock does not exclude other nodes there, no lock of evalmon does."""
    if not flock_works(os.path.dirname(path)):
        raise no_lock(path)
    with held(f"{path}.lock", "flock"):
        if os.path.lexists(path):
            return False
        replace_atomically(path, data)
        return True
