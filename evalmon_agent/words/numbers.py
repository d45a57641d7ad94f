"""Numbers as people read them. Pure."""

from __future__ import annotations

_LARGEST = 1e12


def number(value: float | None, unit: str = "", *, digits: int = 0) -> str:
    """`12`, `350 W`, `97.25%`; `unknown` for None and for what cannot be: negative, infinite, NaN, or above 10^12."""
    return f"{value:.{digits}f}{unit}" if value is not None and 0 <= value <= _LARGEST else "unknown"
