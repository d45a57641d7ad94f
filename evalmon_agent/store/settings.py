"""EXP/evalmon.yaml: the user's settings, read and never written."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping

from evalmon_agent.errors import UnreadableError
from evalmon_agent.files.regular import read_at
from evalmon_agent.settings import FAST_POLLING, MAX_BYTES, Settings, parse


def load(path: str, *, environ: Mapping[str, str]) -> Settings:
    """The settings at `path`, or the defaults if there is no such file. UnreadableError (78) names the key."""
    try:
        data = _read(path)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(data, path=path, fast_polling=environ.get(FAST_POLLING) == "1")


def _read(path: str) -> bytes:
    """Its first bytes, one more than settings may have. It may be a link of the user's; a FIFO is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a file", path)
        return read_at(descriptor, 0, MAX_BYTES + 1)
    finally:
        os.close(descriptor)
