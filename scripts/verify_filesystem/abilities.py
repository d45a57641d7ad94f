"""What can this mount do: links, flock, fsync of a directory. Each is tried once."""

from __future__ import annotations

import os

from evalmon_agent.files import marker
from evalmon_agent.files.holder import this_process
from evalmon_agent.files.lock import flock_works
from verify_filesystem.finding import Finding


def verify(place: str) -> list[Finding]:
    """One finding for each ability; evalmon does without any of them, the marker of a soft lock aside."""
    return [
        Finding("flock", None, "to be had" if flock_works(place) else "refused; evalmon then uses a soft lock"),
        _marker(place),
        Finding("fsync of a directory", None, _sync(place)),
    ]


def _marker(place: str) -> Finding:
    path = os.path.join(place, f"marker.{os.getpid()}")
    try:
        made = marker.publish(path, this_process())
    except OSError as error:
        return Finding("a soft lock's marker", is_sound=False, words=f"cannot be made here ({error.strerror})")
    kind = "a symbolic link" if os.path.islink(path) else "a directory" if os.path.isdir(path) else "a hard link"
    is_ours = made and marker.holder_of(path) == this_process()
    marker.remove(path)
    return Finding("a soft lock's marker", is_ours, f"made whole, as {kind}" if is_ours else "cannot be read back")


def _sync(place: str) -> str:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        return f"refused ({error.strerror}), which is tolerated"
    finally:
        os.close(descriptor)
    return "works"
