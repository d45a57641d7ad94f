"""Which processes are below this one? From /proc/PID/task/TID/children: a few small files, however full the node is."""

from __future__ import annotations

import os


def tree(root: int) -> list[int]:
    """`root` and all its living descendants; those that a daemon of theirs gave to init are not found.

    Raises:
        OSError: `root` is gone.
    """
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        try:
            waiting += _children(pid)
        except (FileNotFoundError, ProcessLookupError):
            if pid == root:
                return _tree_by_psutil(root)
            continue
        found.append(pid)
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
            children += map(int, (file.readall() or b"").split())
    return children


def _tree_by_psutil(root: int) -> list[int]:
    """For kernels without these files (CONFIG_PROC_CHILDREN)."""
    import psutil  # noqa: PLC0415 (17 ms, and hardly ever needed)

    try:
        return [root, *(process.pid for process in psutil.Process(root).children(recursive=True))]
    except psutil.Error as error:
        raise ProcessLookupError(str(error)) from error
