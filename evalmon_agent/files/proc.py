"""Reads what the kernel says about a process and about this boot (proc(5))."""

from __future__ import annotations

import os

_PART_BYTES = 4096


def read(pid: int | str, name: str) -> bytes:
    """`/proc/PID/name`.

    Raises:
        OSError: the process is gone, or another user's.
    """
    descriptor = os.open(f"/proc/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while part := os.read(descriptor, _PART_BYTES):
            data += part
    finally:
        os.close(descriptor)
    return data


def stat_fields(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat after the command's name, which may contain anything: state, parent, ...

    Raises:
        OSError: the process is gone.
    """
    return read(pid, "stat").rpartition(b")")[2].split()


def parent_of(pid: int) -> int:
    """The parent's pid.

    Raises:
        OSError: the process is gone.
    """
    return int(stat_fields(pid)[1])


def parse_cgroups(text: str) -> dict[str, str]:
    """The paths in `N:controllers:path` (cgroups(7)), by controller; `name=systemd` is one, and "" is v2's."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        controllers, colon, path = rest.partition(":")
        if colon and path.startswith("/"):
            paths.update(dict.fromkeys(controllers.split(","), path))
    return paths


def own_cgroups() -> dict[str, str]:
    """The same for this process.

    Raises:
        OSError: /proc cannot be read.
    """
    return parse_cgroups(read("self", "cgroup").decode("utf-8", "surrogateescape"))


def boot_id() -> str:
    """The id of this boot of the machine.

    Raises:
        OSError: /proc cannot be read.
    """
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
