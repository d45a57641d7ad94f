"""What the command and all below it use, by psutil: where there is no cgroup to read."""

import os

import psutil

from .host_usage import Usage
from .process_io import io_of


class TreeUsage:
    """The process tree below (and with) `root`, the one that started the command."""

    name = "processes"

    def __init__(self, root: int) -> None:
        self._root = root
        self._peak_bytes = 0

    def usage(self) -> Usage:
        """Now: proportional memory would need a walk over all mappings, so shared pages count for each.

        Raises:
            OSError: the tree is gone.
        """
        processes = self._processes()
        usage = Usage()
        memory_bytes, cpu_s = 0, 0.0
        for process in processes:
            try:
                with process.oneshot():
                    memory_bytes += process.memory_info().rss
                    # Each carries those of its ended children.
                    cpu_s += sum(process.cpu_times()[:4])
            except psutil.Error:
                continue
        self._peak_bytes = max(self._peak_bytes, memory_bytes)
        usage.memory_bytes, usage.memory_peak_bytes, usage.cpu_s = memory_bytes, self._peak_bytes, cpu_s
        usage.processes = len(processes)
        usage.cpu_limit_cores = float(len(os.sched_getaffinity(0)))
        usage.read_bytes, usage.written_bytes = io_of(process.pid for process in processes)
        return usage

    def headroom_bytes(self) -> int | None:
        """No limit is known."""
        return None

    def _processes(self) -> "list[psutil.Process]":
        try:
            root = psutil.Process(self._root)
            return [root, *root.children(recursive=True)]
        except psutil.Error as error:
            raise ProcessLookupError(str(error)) from error
