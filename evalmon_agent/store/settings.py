"""EXP/evalmon.yaml: the user's settings, read and never written."""

from __future__ import annotations

from collections.abc import Mapping

from evalmon_agent.errors import UnreadableError
from evalmon_agent.settings import FAST_POLLING, MAX_BYTES, Settings, parse


def load(path: str, *, environ: Mapping[str, str]) -> Settings:
    """The settings at `path`, or the defaults if there is no such file. UnreadableError (78) names the key."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Settings()
    except OSError as error:
        raise UnreadableError(f"{path}: cannot be read ({error.strerror})") from None
    return parse(data, path=path, fast_polling=environ.get(FAST_POLLING) == "1")
