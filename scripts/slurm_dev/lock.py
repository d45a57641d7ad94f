"""Lets only one `slurm-dev` at a time change an instance or choose names and ports."""

import hashlib
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .errors import SlurmDevError


@contextmanager
def lock(name: str, *, timeout_s: float = 120) -> Iterator[None]:
    """Hold the lock of this name; "" is that of the whole machine.

    It is an abstract socket: it ends with the process that holds it, and leaves no file.
    """
    deadline = time.monotonic() + timeout_s
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as holder:
        while True:
            try:
                holder.bind(f"\0evalmon-slurm-dev-{digest}")
                break
            except OSError as error:
                if time.monotonic() > deadline:
                    raise SlurmDevError(f"another slurm-dev has been busy here for {timeout_s:.0f} s") from error
                time.sleep(0.1)
        yield
