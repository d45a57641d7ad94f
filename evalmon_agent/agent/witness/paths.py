"""Translates paths of a process into ours, where it has a mount namespace or a root directory of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator

from evalmon_agent.files.mounts import Mount, mount_of, parse_mountinfo
from evalmon_agent.files.proc import read

_FILE_URL = "file://"


class Paths:
    """Translates paths of one process, also after its end. Take it while the process lives.

    Raises:
        OSError: the process is gone, or another user's.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._root = os.readlink(f"/proc/{pid}/root")
        self._inside: list[Mount] | None = None
        if os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            self._inside = parse_mountinfo(read(pid, "mountinfo").decode("utf-8", "surrogateescape"))

    def ours(self, path: str) -> str | None:
        """Where we find what is at `path` for the process; None if that is not certain. A URL stays what it is."""
        if path.startswith(_FILE_URL):
            from urllib.parse import unquote  # noqa: PLC0415 (8 ms, and seldom needed)

            path = unquote(path.removeprefix(_FILE_URL).removeprefix("localhost"))
        if "://" in path or not path.startswith("/"):
            return path if "://" in path else None
        if self._inside is None:
            return path if self._root == "/" else f"{self._root.rstrip('/')}{path}"
        outside = parse_mountinfo(read("self", "mountinfo").decode("utf-8", "surrogateescape"))
        candidates = translations(path, self._inside, outside)
        return next((candidate for candidate, device in candidates if self._is_same(path, candidate, device)), None)

    def _is_same(self, inside: str, outside: str, device: str) -> bool:
        """Whether both name one file; after the process's end, whether ours is at least on the right device."""
        try:
            ours = os.stat(outside)
        except OSError:
            return False
        try:
            theirs = os.stat(f"/proc/{self._pid}/root{inside}")
        except OSError:
            return f"{os.major(ours.st_dev)}:{os.minor(ours.st_dev)}" == device
        return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)


def translations(path: str, inside: list[Mount], outside: list[Mount]) -> Iterator[tuple[str, str]]:
    """The paths at which the mounts outside show what those inside show at `path`, and on which device. Pure."""
    mount = mount_of(path, inside)
    if mount is None:
        return
    in_file_system = _joined(mount.root, _below(path, mount.point) or "")
    for candidate in outside:
        below = _below(in_file_system, candidate.root) if candidate.device == mount.device else None
        if below is not None:
            found = _joined(candidate.point, below)
            if mount_of(found, outside) == candidate:
                yield found, mount.device


def _below(path: str, directory: str) -> str | None:
    """`path` seen from a directory at or above it, else None."""
    directory = directory.rstrip("/")
    return path[len(directory) :].lstrip("/") if f"{path}/".startswith(f"{directory}/") else None


def _joined(directory: str, below: str) -> str:
    return f"{directory.rstrip('/')}/{below}" if below else directory
