"""A small file of the kernel's that is read again and again: kept open, which spares it the way along the path.

At a tick a second that way was half of what a cgroup's figures cost. An open file keeps no cgroup from being removed.
"""

from __future__ import annotations

import os

# Of memory.stat, the longest, a third is used.
_BYTES = 16384


class KernelFile:
    """One file below /sys/fs/cgroup."""

    __slots__ = ("_descriptor", "_is_missing", "_path")

    def __init__(self, directory: str, name: str) -> None:
        """Nothing is opened yet."""
        self._path = f"{directory}/{name}"
        self._descriptor = -1
        self._is_missing = False

    def text(self) -> str:
        """What is in it now.

        Raises:
            OSError: it is not there, or its cgroup is gone.
        """
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return os.pread(self._descriptor, _BYTES, 0).decode("ascii", "replace")

    def text_if_there(self) -> str:
        """The same; empty for a file that this kernel does not have, or that is gone."""
        if self._is_missing:
            return ""
        try:
            return self.text()
        except FileNotFoundError:
            self._is_missing = True
            return ""
        except OSError:
            return ""
