"""Which lock does a file system bear: its mount looked up in /proc/self/mountinfo, and judged. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

LockKind = Literal["flock", "soft"]

# Their flock excludes every process that can reach the file: of one machine, or cluster-wide.
_OF_ONE_MACHINE = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "overlay", "bcachefs", "jfs", "reiserfs"}
)
_ACROSS_NODES = frozenset({"nfs", "nfs4", "lustre", "ceph", "gfs2", "ocfs2"})
# Lustre locks across nodes only with this option.
_LUSTRE = "flock"
# nfs(5) and mount.lustre(8): locks are this node's own, or none.
_NODE_LOCAL_OPTIONS = frozenset({"localflock", "noflock", "nolock", "local_lock=all", "local_lock=flock"})
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
    for line in text.split("\n"):
        left, dash, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if dash and len(fields) >= 6 and len(tail) >= 3:
            options = frozenset([*fields[5].split(","), *tail[2].split(",")])
            mounts.append(Mount(_unescape(fields[4]), tail[0], options))
    return mounts


def mount_of(path: str, mounts: list[Mount]) -> Mount | None:
    """The mount that holds this absolute, resolved path: the longest point, the last of equal ones."""
    found: Mount | None = None
    for mount in mounts:
        point = mount.point.rstrip("/")
        holds = path == mount.point or path.startswith(point + "/")
        if holds and (found is None or len(point) >= len(found.point.rstrip("/"))):
            found = mount
    return found


def lock_kind(mount: Mount | None) -> LockKind:
    """`flock` where it is known to be sound across nodes, `soft` (a marker file) where it is not or nobody knows."""
    if mount is None or mount.options & _NODE_LOCAL_OPTIONS:
        return "soft"
    if mount.fstype == "lustre" and _LUSTRE not in mount.options:
        return "soft"
    return "flock" if mount.fstype in _OF_ONE_MACHINE | _ACROSS_NODES else "soft"


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
