"""Synchronises the processes of all hosts by a directory on the file system itself, with barriers of plain files."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from evalmon_agent.files.replace import replace_atomically

_PATIENCE_S = 180.0
"""Longer than any client caches what a directory lists (nfs(5): acdirmax, 60 s)."""
_LOOK_S = 0.02

Worker = Callable[[str, int], Any]
"""What one process does at its place (the meeting's directory, as its mount shows it); its number is the second."""


class MeetingError(Exception):
    """The processes did not meet; the message says why."""


class Meeting:
    """This program's part in one run; the same on every host."""

    def __init__(self, mounts: Sequence[str], name: str, *, hosts: int) -> None:
        self.places = [os.path.join(mount, name) for mount in mounts]
        self._hosts = hosts
        self._me = f"{socket.gethostname()}.{os.getpid()}.{os.urandom(3).hex()}"
        os.makedirs(self.places[0], mode=0o700, exist_ok=True)
        self.parties = self._everybody("here", self._me)

    @property
    def place(self) -> str:
        """The directory in this host's first mount."""
        return self.places[0]

    @property
    def is_first(self) -> bool:
        """Let one of all parties do what must be done once."""
        return self.parties[0] == self._me

    def barrier(self, name: str) -> None:
        """Wait until every party is here."""
        self._everybody(f"at-{name}", self._me)

    def let_work(self, name: str, worker: Worker, *, processes: int, first: Worker | None = None) -> list[Any]:
        """Run so many processes on each mount of each host, together; what each of them returned, from all hosts.

        `first`: what one process of all does instead.
        """
        self.barrier(f"{name}-begins")
        children = []
        for mount, place in enumerate(self.places):
            for number in range(processes):
                work = first if first is not None and self.is_first and mount == number == 0 else worker
                result = os.path.join(self.place, f"{name}-result.{self._me}.{mount}.{number}")
                arguments = (work, place, mount * processes + number, result)
                children.append(multiprocessing.get_context("fork").Process(target=_work, args=arguments))
        for child in children:
            child.start()
        for child in children:
            child.join()
        if any(child.exitcode for child in children):
            raise MeetingError(f"{name}: a process failed; its traceback stands above")
        self.barrier(f"{name}-ends")
        expected = self._hosts * len(self.places) * processes
        return [_read(path) for path in self._names(f"{name}-result.", expected)]

    def leave(self) -> None:
        """Remove the directory once all parties are done with it."""
        replace_atomically(os.path.join(self.place, f"leaves.{self._me}"), b"")
        if self.is_first:
            self._names("leaves.", self._hosts)
            self.abandon()

    def abandon(self) -> None:
        """Remove the directory at once."""
        shutil.rmtree(self.place, ignore_errors=True)

    def _everybody(self, kind: str, text: str) -> list[str]:
        replace_atomically(os.path.join(self.place, f"{kind}.{self._me}"), text.encode())
        return [os.path.basename(path)[len(kind) + 1 :] for path in self._names(f"{kind}.", self._hosts)]

    def _names(self, prefix: str, expected: int) -> list[str]:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            found = sorted(name for name in os.listdir(self.place) if name.startswith(prefix))
            if len(found) >= expected:
                return [os.path.join(self.place, name) for name in found]
            if time.monotonic() > deadline:
                raise MeetingError(f"{len(found)} of {expected} were there after {_PATIENCE_S:.0f} s ({prefix}*)")
            time.sleep(_LOOK_S)


def _work(worker: Worker, place: str, number: int, result: str) -> None:
    replace_atomically(result, json.dumps(worker(place, number)).encode())


def _read(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)
