"""Reads counts, and writes numbers for people. Pure."""

from __future__ import annotations

_LARGEST = 1e12
_DIGITS_AT_MOST = 18


def count(text: str) -> int | None:
    """A whole number as Slurm prints one; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS_AT_MOST else None


def number(value: float | None, unit: str = "", *, digits: int = 0) -> str:
    """`12`, `350 W`, `97.25%`; `unknown` for None and for what cannot be: negative, infinite, NaN, or above 10^12."""
    return f"{value:.{digits}f}{unit}" if value is not None and 0 <= value <= _LARGEST else "unknown"
