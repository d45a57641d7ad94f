"""Reads and makes experiment.json: which experiment this is, and for which directory the first command made it.

A directory of ours in the place of another of ours is told by it: the jobs are given the id, and a command sees the
place. The id is no secret.
"""

from __future__ import annotations

import os

import msgspec

from evalmon_agent.experiment import versioned
from evalmon_agent.files.publish import publish

SCHEMA = 1
_ID_BYTES = 16


class Identity(msgspec.Struct, frozen=True):
    """`root`, `inode`: the path and the inode of EXP when it was made."""

    id: str
    root: str
    inode: int
    schema: int = SCHEMA

    def is_of(self, root: str, inode: int) -> bool:
        """Whether this is the directory that it was made for, moved as a whole or restored in its place perhaps."""
        return self.root == root or self.inode == inode


_decoder = msgspec.json.Decoder(Identity)


def make(path: str, *, root: str, inode: int) -> None:
    """Write it with a new id, unless somebody else has written one."""
    publish(path, msgspec.json.encode(Identity(os.urandom(_ID_BYTES).hex(), root, inode)) + b"\n")


def load(path: str) -> Identity | None:
    """What was written; None before that, and of an experiment that was made when there was no such file."""
    return versioned.read(path, _decoder, schema=SCHEMA)
