"""Which lock does a file system bear: its mount looked up in /proc/self/mountinfo, and judged. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

LockKind = Literal["flock", "soft"]

# File systems whose flock is seen by one node only, or not at all (facts: GPFS, Lustre, BeeGFS, NFS options).
_NODE_LOCAL_TYPES = frozenset({"gpfs", "beegfs", "fuse.beegfs", "fhgfs", "9p", "fuse.sshfs", "afs", "panfs", "cvmfs2"})
_NODE_LOCAL_OPTIONS = frozenset({"localflock", "noflock", "nolock", "local_lock=all", "local_lock=flock"})
_LUSTRE_OK = "flock"
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo: where, what type, which options (of the mount and of the super block)."""

    point: str
    fstype: str
    options: frozenset[str]


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts in the kernel's order (proc(5)); a line that does not look like one is left out."""
    mounts = []
    for line in text.splitlines():
        left, dash, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if dash and len(fields) >= 6 and len(tail) >= 3:
            options = frozenset([*fields[5].split(","), *tail[2].split(",")])
            mounts.append(Mount(_unescape(fields[4]), tail[0], options))
    return mounts


def mount_of(path: str, mounts: list[Mount]) -> Mount | None:
    """The mount that holds this absolute, resolved path: the longest point, the last of equal ones."""
    holding = [m for m in mounts if path == m.point or path.startswith(m.point.rstrip("/") + "/")]
    return max(holding, key=lambda m: len(m.point.rstrip("/")) + mounts.index(m) / (len(mounts) + 1), default=None)


def lock_kind(mount: Mount | None) -> LockKind:
    """`flock` where it is sound across nodes, `soft` (O_EXCL) where it is not or nobody knows."""
    if mount is None or mount.fstype in _NODE_LOCAL_TYPES or mount.options & _NODE_LOCAL_OPTIONS:
        return "soft"
    if mount.fstype == "lustre" and _LUSTRE_OK not in mount.options:
        return "soft"
    return "flock"


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
