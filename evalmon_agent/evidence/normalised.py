"""Takes out of an error's line what differs from one occurrence to the next: paths, numbers, addresses, ids. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

_READ_CHARS = 1000
_KEPT_CHARS = 200

# Numbers that name an error: HTTP and exit statuses, signals, errno. They stay.
_NAMES_ERROR = (
    r"(?:(?:\berror )?code|\bstatus(?: code)?|\bHTTP(?:/[\d.]+)?|\b(?:os )?error|\bErrno|\bsignal|\bXid)"
    r"['\"]?[:= ]{1,3}\d{1,4}\b"
)
# `429 Client Error`, `503 Service Unavailable`: a status in front of its words.
_STATUS_FIRST = r"(?<![\w.])[45]\d\d (?=[A-Z][a-z])"
_URL = r"\b(?P<scheme>[a-z][a-z0-9+]{1,9})://(?P<host>[^\s/'\"<>()\[\]]{0,200})[^\s'\"<>()\[\],;]{0,500}"
_TIME = r"(?<!\w)\d{4}-\d\d-\d\d(?:[T ]\d\d[:-]\d\d(?:[:-]\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\w)"
_CLOCK = r"(?<![\w:])\d{1,2}:\d\d:\d\d(?:[.,]\d+)?(?![\w:])"
_ADDRESS = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?![\w.])|\b0x[0-9a-fA-F]+\b"
# /data/a, ~/a, ./a, ../a, data/run/a. A name like meta-llama/Llama-3 is none.
_PATH = (
    r"(?<![\w.~/<-])(?:(?:~|\.{1,2})?(?:/[^\s/'\"<>()\[\]:,;|]{1,255}){1,60}"
    r"|[\w.@+-]{1,255}(?:/[\w.@+-]{1,255}){2,60})/?"
)
_UUID = r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"
_HEX = r"\b(?=[a-f]*\d)[0-9a-f]{8,}\b|\b(?=[A-F]*\d)[0-9A-F]{8,}\b"
# A long word of letters and digits in turn: ids of requests (req_011CSxYz), of logs (hTx9bRkm3...).
_MIXED = r"\b(?:[a-z]{2,10}[_-])?(?=\w{12})(?:[A-Za-z]{0,8}\d{1,8}[A-Za-z]{1,8}\d)\w*"
_NUMBERED = (
    r"\b(?P<noun>sample|epoch|worker|rank|job|task|step|checkpoint|node|gpu|thread|process|pid|port|attempt|batch|run|id)"
    r"(?P<between>[-_]?)\d+\b"
)
# Not in a name: Llama-3-8B, gpt-4o, h100 and utf-8 stay.
_NUMBER = (
    r"(?<![\w.-])[-+]?\d+(?:[,_-]\d+)*(?:\.\d+)*(?:[eE][-+]?\d+)?(?P<unit>%|[a-zA-Zµ]{1,4}\b)?(?!\w)|(?<=\w_)\d+\b"
)

_VARYING = re.compile(
    "|".join(
        f"(?P<{name}>{pattern})"
        for name, pattern in (
            ("kept", f"(?i:{_NAMES_ERROR})|{_STATUS_FIRST}"),
            ("url", _URL),
            ("time", f"{_TIME}|{_CLOCK}"),
            ("address", _ADDRESS),
            ("path", _PATH),
            ("id", f"{_UUID}|{_HEX}|{_MIXED}"),
            ("numbered", f"(?i:{_NUMBERED})"),
            ("number", _NUMBER),
        )
    )
)
_FILE = re.compile(r"[^/]+\.[A-Za-z][A-Za-z0-9]{0,9}")
_DIGITS = re.compile(r"\d+")
_TEMPORARY = re.compile(r"\btmp\w+")


def normalised(line: str) -> str:
    """The line so that two occurrences of one error are equal, and two errors are not; at most 200 characters.

    What says which error it is stays: statuses (`Error code: 429`), `[Errno 28]`, names of files, models and hosts.
    """
    text = _VARYING.sub(_replacement, " ".join(line[:_READ_CHARS].split()))
    return text if len(text) <= _KEPT_CHARS else f"{text[: _KEPT_CHARS - 1]}…"


def _replacement(match: re.Match[str]) -> str:
    return next(word(match) for name, word in _WORDS.items() if match[name] is not None)


def _path(match: re.Match[str]) -> str:
    name = match[0].rstrip("/").rpartition("/")[2]
    stop = "." if name.endswith(".") else ""
    name = name.rstrip(".")
    if not _FILE.fullmatch(name):
        return f"<path>{stop}"
    return f"<path>/{_DIGITS.sub('N', _TEMPORARY.sub('tmp', name))}{stop}"


def _url(match: re.Match[str]) -> str:
    host = match["host"].rpartition("@")[2].partition(":")[0]
    if host.replace(".", "").isdigit():
        host = "<address>"
    return f"{match['scheme']}://{host}"


_WORDS: dict[str, Callable[[re.Match[str]], str]] = {
    "kept": lambda match: match[0],
    "url": _url,
    "time": lambda _match: "<time>",
    "address": lambda _match: "<address>",
    "path": _path,
    "id": lambda _match: "<id>",
    "numbered": lambda match: f"{match['noun']}{match['between']}N",
    "number": lambda match: f"N{match['unit'] or ''}",
}
