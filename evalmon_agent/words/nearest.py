"""Suggests what was probably meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean status?`, or nothing if no known word is near."""
    nearest = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {nearest[0]}?" if nearest else ""
