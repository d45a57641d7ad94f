"""Reads what the kernel says about processes, mounts and this boot (proc(5)); which lock a file system carries."""

from __future__ import annotations

import os
import re
from typing import Literal, NamedTuple

LockKind = Literal["flock", "soft"]

# Their flock excludes every process that can reach the file: of one machine, or cluster-wide.
_OF_ONE_MACHINE = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "overlay", "bcachefs", "jfs", "reiserfs"}
)
_ACROSS_NODES = frozenset({"nfs", "nfs4", "lustre", "ceph", "gfs2", "ocfs2"})
_SHARED = frozenset(
    {"gpfs", "beegfs", "fuse.glusterfs", "glusterfs", "wekafs", "panfs", "pvfs2", "orangefs", "afs", "cifs"}
)
# Lustre locks across nodes only with this option.
_LUSTRE = "flock"
# nfs(5) and mount.lustre(8): locks are this node's own, or none.
_NODE_LOCAL_OPTIONS = frozenset({"localflock", "noflock", "nolock", "local_lock=all", "local_lock=flock"})

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


class Mount(NamedTuple):
    """One line of mountinfo: where, what type, which options (of the mount and of the super block).

    `root`: the directory of the file system that is seen at `point`; `device`: that file system's, as major:minor.
    """

    point: str
    fstype: str
    options: frozenset[str]
    root: str = "/"
    device: str = ""


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts in the kernel's order (proc(5)); a line that does not look like one is left out."""
    mounts = []
    for line in text.split("\n"):
        left, dash, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if dash and len(fields) >= 6 and len(tail) >= 3:
            options = frozenset([*fields[5].split(","), *tail[2].split(",")])
            mounts.append(Mount(_unescape(fields[4]), tail[0], options, root=_unescape(fields[3]), device=fields[2]))
    return mounts


def mount_of(path: str, mounts: list[Mount]) -> Mount | None:
    """The mount that holds this absolute, resolved path: the longest point, the last of equal ones."""
    above = [mount for mount in mounts if below(path, mount.point) is not None]
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)


def below(path: str, directory: str) -> str | None:
    """`path` seen from a directory at or above it, else None."""
    directory = directory.rstrip("/")
    return path[len(directory) :].lstrip("/") if f"{path}/".startswith(f"{directory}/") else None


def joined(directory: str, path_below: str) -> str:
    """The path that is `path_below`, which may be empty, seen from the directory."""
    return f"{directory.rstrip('/')}/{path_below}" if path_below else directory


def lock_kind(mount: Mount | None) -> tuple[LockKind, str]:
    """`flock` if it is known to work across nodes, otherwise `soft` (a marker file); and the reason."""
    if mount is None:
        return "soft", "it is unknown how it is mounted"
    local = sorted(mount.options & _NODE_LOCAL_OPTIONS)
    if local:
        return "soft", f"{mount.fstype} mounted with {local[0]}: flock does not exclude other nodes"
    if mount.fstype == "lustre" and _LUSTRE not in mount.options:
        return "soft", "lustre mounted without the option flock"
    if mount.fstype in _OF_ONE_MACHINE:
        return "flock", f"{mount.fstype} is of one machine, whose kernel sees every flock"
    if mount.fstype in _ACROSS_NODES:
        return "flock", f"{mount.fstype} carries flock across nodes"
    return "soft", f"{mount.fstype} is not known to carry flock across nodes"


def same_flock(recorded: str | None, mount: Mount | None) -> bool:
    """Whether flock through this mount and through one of the recorded type exclude each other.

    An NFS server's own flock and those of its clients do not: to the server, theirs are POSIX locks.
    """
    if mount is None or lock_kind(mount)[0] != "flock":
        return False
    is_known_type = recorded in _OF_ONE_MACHINE | _ACROSS_NODES
    return not is_known_type or (recorded in _ACROSS_NODES) == (mount.fstype in _ACROSS_NODES)


def is_exported(path: str, etab: str) -> bool:
    """Whether an NFS server's table of exports (exports(5): `PATH CLIENT(OPTIONS)`) has this path or one above it."""
    points = (_unescape(line.split(None, 1)[0]) for line in etab.splitlines() if line.startswith("/"))
    return any(below(path, point) is not None for point in points)


def is_of_one_machine(mount: Mount) -> bool:
    """Whether other machines cannot see this file system (unless it is exported to them)."""
    return mount.fstype in _OF_ONE_MACHINE


def is_shared(mount: Mount) -> bool:
    """Whether it is a file system that is known to be shared by many machines."""
    return mount.fstype in _ACROSS_NODES | _SHARED


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
