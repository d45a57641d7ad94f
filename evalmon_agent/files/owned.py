"""Reads the files of one user. What belongs to somebody else is remembered, and not used.

Promises: those of `trusted`; a file is opened once, and what is asked of it is asked of that descriptor.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from evalmon_agent.files import trusted
from evalmon_agent.files.regular import read_at

_FOREIGN_AT_MOST = 20


class OwnedFiles:
    """The files of the user with the number `owner`.

    `foreign`: by path, the user to whom something belongs that was not used; the first 20.
    """

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self.foreign: dict[str, int] = {}

    def is_owned(self, uid: int) -> bool:
        """Whether what belongs to this user counts: the owner, or root."""
        return uid in {self.owner, 0}

    def pass_over(self, path: str, uid: int) -> None:
        """Remember that this was not used."""
        if len(self.foreign) < _FOREIGN_AT_MOST:
            self.foreign[path] = uid

    @contextmanager
    def open(self, path: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
        """The descriptor of a regular file of the owner's and its size in bytes.

        Raises:
            OSError: there is none, it is not the owner's (ForeignError), or it may not be read.
        """
        with self._remembering():
            descriptor = trusted.open_file(path, owner=self.owner)
        try:
            yield descriptor, os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    @contextmanager
    def scan(self, directory: str) -> Iterator[Iterator[os.DirEntry[str]]]:
        """The entries of a directory, whose `path` is the bare name; of a foreign link none.

        Raises:
            OSError: it is not there, a foreign link leads to it (ForeignError), or it may not be read.
        """
        with self._remembering():
            descriptor = trusted.open_listing(directory, owner=self.owner)
        try:
            with os.scandir(descriptor) as entries:
                yield entries
        finally:
            os.close(descriptor)

    def read_tail(self, path: str | os.PathLike[str], *, limit_bytes: int = 65536) -> bytes | None:
        """The last `limit_bytes` of a file, less if it is shorter; None if it cannot be read.

        Unless the file begins within the limit, its first line is cut off somewhere.
        """
        try:
            with self.open(path) as (descriptor, size_bytes):
                return read_at(descriptor, max(size_bytes - limit_bytes, 0), limit_bytes)
        except OSError:
            return None

    @contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except trusted.ForeignError as error:
            self.pass_over(error.filename, error.uid)
            raise
