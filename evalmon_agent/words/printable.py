"""Makes outside text printable: one line, without anything that a terminal or a reader would obey."""

from __future__ import annotations

import unicodedata
from typing import Any

_MAX_CHARS = 2000
# Control, format (bidi, zero width), surrogate, private use, line and paragraph separators.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp", "Cn"})


def printable(text: str, *, max_chars: int = _MAX_CHARS) -> str:
    r"""The text with every unsafe character escaped (`\n`, `\x1b`, `\u202e`), cut at `max_chars`.

    One event stays one line: no outside text can forge another. Backslashes stay as they are: the text is for
    people, not for decoding.
    """
    if text.isascii() and text.isprintable() and len(text) <= max_chars:
        return text
    shown = "".join(_escape(c) if unicodedata.category(c) in _UNSAFE else c for c in text[:max_chars])
    return shown + "…" if len(text) > max_chars else shown


def _escape(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def without_surrogates(value: Any) -> Any:
    """What JSON can hold, with U+FFFD for bytes that are not UTF-8 (lone surrogates), which strict readers refuse."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    return [without_surrogates(item) for item in value] if isinstance(value, list) else value
