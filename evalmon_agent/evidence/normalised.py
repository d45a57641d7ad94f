"""Takes out of an error's line what differs from one occurrence to the next: paths, numbers, addresses, ids. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

_READ_CHARS = 1000
_KEPT_CHARS = 200

_URL = r"\b(?P<scheme>[a-z][a-z0-9+]{1,9})://(?P<host>[^\s/'\"<>()\[\]]{0,200})[^\s'\"<>()\[\],;]{0,500}"
_TIME = r"(?<!\w)\d{4}-\d\d-\d\d(?:T\d\d[:-]\d\d(?:[:-]\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?)?(?!\w)"
_CLOCK = r"(?<![\w:])\d{1,2}:\d\d:\d\d(?:[.,]\d+)?(?![\w:])"
_ADDRESS = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?![\w.])|\b0x[0-9a-fA-F]+\b"
# /data/a, ~/a, ./a, ../a, data/run/a. A name like meta-llama/Llama-3 is none.
_PATH = (
    r"(?<![\w.~/<-])(?:(?:~|\.{1,2})?(?:/{1,3}[^\s/'\"<>()\[\]:,;|]{1,255}){1,60}"
    r"|[\w.@+-]{1,255}(?:/{1,3}[\w.@+-]{1,255}){2,60})/?"
)
_UUID = r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b"
_HEX = r"\b(?:[a-z]{2,10}_)?(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b|\b(?=[A-F]*\d)(?=\d*[A-F])[0-9A-F]{8,}\b"
# A long word of letters and digits in turn: ids of requests (req_011CSxYz), of logs (hTx9bRkm3...).
_MIXED = r"\b(?:[a-z]{2,10}[_-])?(?=\w{12})[A-Za-z]*\d+[A-Za-z]+\d\w*"
# Whole numbers, and the end of a name.
_NUMBER = (
    r"(?<![\w.-])[-+]?\d+(?:[,_-]\d+)*(?:\.\d+)*(?:[eE][-+]?\d+)?(?P<unit>%|[a-zA-Zµ]{1,4}\b)?(?!\w)"
    r"|(?<=[A-Za-z])(?P<between>[-_]?)\d+\b"
)
# A word with a digit or a slash: only those are looked at closely.
_MAY_VARY = re.compile(r"(?<!\S)[^\s\d/]*[\d/]\S*")
# Numbers that name an error stay: `Error code: 429`, `exit status 1`, `[Errno 28]`, `"HTTP/1.1 503`.
_SAYS_WHICH = re.compile(r"(?:code|status|error|errno|signal|xid|http(?:/[\d.]+)?)['\"]?[:= ]{1,3}$", re.IGNORECASE)
_STATUS = re.compile(r"[-+]?\d{1,4}")
# `429 Client Error`, `503 Service Unavailable`: a status in front of its words.
_HTTP_ERROR = re.compile(r"[45]\d\d (?=[A-Z][a-z])")
# Names whose number says which one: sample12, epoch-3. Llama-3, gpt-4 and h100 stay.
_COUNTED = re.compile(
    r"(?:sample|epoch|worker|rank|job|task|step|checkpoint|node|gpu|thread|process|pid|port|attempt|batch|run|id)$",
    re.IGNORECASE,
)
_FILE = re.compile(r"[^/]+\.[A-Za-z][A-Za-z0-9]{0,9}")
_ON_HUB = re.compile(r"https://huggingface\.co/(?!api/)(?:datasets/)?[\w.-]{1,100}/[\w.-]{1,100}")
_DIGITS = re.compile(r"\d+")
# An exception's repr, as inspect-ai's logs have it: `Type('message')`, `OSError(2, 'message')`, maybe cut off.
_REPR = re.compile(
    r"(?P<type>[A-Za-z_][\w.]*)\((?:(?P<errno>\d{1,4}), )?(?P<quote>['\"])(?P<message>.*?)(?:(?P=quote),?\)|$)",
    re.ASCII,
)
# A KeyError's message is the repr of its key.
_KEY = re.compile(r"KeyError: (?P<quote>['\"])(?P<key>[^'\"]*)(?P=quote)")
_TEMPORARY = re.compile(r"\btmp\w+")


def normalised(line: str) -> str:
    """The line so that two occurrences of one error are equal, and two errors are not; at most 200 characters.

    What says which error it is stays: statuses (`Error code: 429`), `[Errno 28]`, names of files, models and hosts.
    """
    text = _without_repr(" ".join(line[:_READ_CHARS].split()))
    written, end = "", 0
    for word in _MAY_VARY.finditer(text):
        for match in _VARYING.finditer(text, *word.span()):
            replacement = next(write(match) for name, (_, write) in _WORDS.items() if match[name] is not None)
            written += text[end : match.start()] + replacement
            end = match.end()
        if len(written) > 2 * _KEPT_CHARS:
            break
    written = (written + text[end:]).replace("<time> <time>", "<time>")
    return written if len(written) <= _KEPT_CHARS else f"{written[: _KEPT_CHARS - 1]}…"


def _without_repr(text: str) -> str:
    """The text with `Type: message` for `Type('message')` at its start: both are one error."""
    match = _REPR.match(text)
    if match is not None:
        errno = f"[Errno {match['errno']}] " if match["errno"] else ""
        message = " ".join(match["message"].replace("\\n", " ").split())
        text = f"{match['type']}: {errno}{message}{text[match.end() :]}"
    return _KEY.sub(r"KeyError: \g<key>", text)


def _path(match: re.Match[str]) -> str:
    name = match[0].rstrip("/").rpartition("/")[2]
    stop = "." if name.endswith(".") else ""
    name = name.rstrip(".")
    if not _FILE.fullmatch(name):
        return f"<path>{stop}"
    return f"<path>/{_DIGITS.sub('N', _TEMPORARY.sub('tmp', name))}{stop}"


def _url(match: re.Match[str]) -> str:
    if hub := _ON_HUB.match(match[0]):
        return hub[0].rstrip(".")
    host = match["host"].rpartition("@")[2].partition(":")[0]
    if host.replace(".", "").isdigit():
        host = "<address>"
    return f"{match['scheme']}://{host}"


def _number(match: re.Match[str]) -> str:
    before = match.string[max(match.start() - 16, 0) : match.start()]
    if match["between"] is not None:
        is_varying = match["between"] == "_" or _COUNTED.search(before)
        return f"{match['between']}N" if is_varying else match[0]
    if _STATUS.fullmatch(match[0]) and (_SAYS_WHICH.search(before) or _HTTP_ERROR.match(match.string, match.start())):
        return match[0]
    return f"N{match['unit'] or ''}"


_WORDS: dict[str, tuple[str, Callable[[re.Match[str]], str]]] = {
    "url": (_URL, _url),
    "time": (f"{_TIME}|{_CLOCK}", lambda _match: "<time>"),
    "address": (_ADDRESS, lambda _match: "<address>"),
    "path": (_PATH, _path),
    "id": (f"{_UUID}|{_HEX}|{_MIXED}", lambda _match: "<id>"),
    "number": (_NUMBER, _number),
}
"""By name, how a word that varies looks, and what stands for it."""
_VARYING = re.compile("|".join(f"(?P<{name}>{pattern})" for name, (pattern, _) in _WORDS.items()))
