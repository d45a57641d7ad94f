"""Which processes are in a cgroup and all below it? Its tree is walked again only when it has changed."""

from __future__ import annotations

import os

# Larger than any page of it: the kernel gives it out in parts.
_BYTES = 65536


class CgroupPids:
    """One cgroup, and those below it as they come and go with the job's steps."""

    __slots__ = ("_below", "_directory", "_links")

    def __init__(self, directory: str) -> None:
        """Nothing is read yet."""
        self._directory = directory
        self._links = 0
        self._below: dict[str, CgroupPids] = {}

    def pids(self) -> list[int]:
        """All of them now.

        Raises:
            OSError: it is gone.
        """
        found, is_whole = self._look()
        if not is_whole:  # one below is gone, and another may have come instead
            self._links = 0
            found, _ = self._look()
        return found

    def _look(self) -> tuple[list[int], bool]:
        found, is_whole = _pids_in(self._directory), True
        for below in self._children():
            try:
                found += below.pids()
            except OSError:
                is_whole = False
        return found, is_whole

    def _children(self) -> list[CgroupPids]:
        """A directory has two links and one more for each below it; where that is not so it is listed each time."""
        links = os.stat(self._directory).st_nlink
        if links != self._links or links < 2:
            with os.scandir(self._directory) as entries:
                paths = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            self._below = {path: self._below.get(path) or CgroupPids(path) for path in paths}
            self._links = links
        return list(self._below.values())


def _pids_in(directory: str) -> list[int]:
    descriptor = os.open(f"{directory}/cgroup.procs", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while part := os.read(descriptor, _BYTES):
            data += part
    finally:
        os.close(descriptor)
    return [int(word) for word in data.split()]
