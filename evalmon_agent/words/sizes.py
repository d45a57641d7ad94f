"""Parses and prints counts and sizes: memory as sacct, seff and sbatch print it, in bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Per = Literal["cpu", "node"]

_UNITS = "KMGTPE"
_LARGEST_BYTES = 1 << 63
_LARGEST_NUMBER = 1e12
_DIGITS_AT_MOST = 18
_NUMBER = r"(\d{1,18}(?:\.\d{1,6})?)"
_SACCT = re.compile(rf"{_NUMBER}([{_UNITS}]?)([cn]?)", re.ASCII)
_SEFF = re.compile(rf"{_NUMBER} ?([{_UNITS}])B", re.ASCII)
_MEM_OPTION = re.compile(r"(\d{1,12})(?:([KMGT])B?)?", re.ASCII | re.IGNORECASE)

_PER: dict[str, Per] = {"c": "cpu", "n": "node"}


def count(text: str) -> int | None:
    """A whole number as Slurm prints one; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _DIGITS_AT_MOST else None


def counted(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`, `0 jobs`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def listed(names: Sequence[str], *, most: int, separator: str = ", ") -> str:
    """`a, b`, or `a, b and 3 more` if there are more than `most`."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return separator.join(names[:most]) + rest


def number(value: float | None, unit: str = "", *, digits: int = 0) -> str:
    """`12`, `350 W`, `97.25%`; `unknown` for None and for what cannot be: negative, infinite, NaN, or above 10^12."""
    return f"{value:.{digits}f}{unit}" if value is not None and 0 <= value <= _LARGEST_NUMBER else "unknown"


def parse_sacct(text: str) -> int | None:
    """Bytes of `499092K`, `2.71G` or `13392806` (no unit: bytes; MaxRSS, AllocTRES and TRESUsage* alike)."""
    parsed = parse_requested(text)
    return None if parsed is None or parsed[1] is not None else parsed[0]


def parse_requested(text: str) -> tuple[int, Per | None] | None:
    """ReqMem: `40G` is for the job; up to 20.11 `4Gc` is for each cpu and `4000Mn` for each node."""
    match = _SACCT.fullmatch(text.strip())
    return None if match is None else (_bytes(match[1], match[2]), _PER.get(match[3]))


def parse_seff(text: str) -> int | None:
    """Bytes of `32.29 GB`, base 1024; a bare `B`, as in `16.00 B`, means that seff did not know."""
    match = _SEFF.fullmatch(text.strip())
    return None if match is None else _bytes(match[1], match[2])


def parse_mem_option(text: str) -> int | None:
    """Bytes of sbatch's `--mem=200M`; no unit means MB. None for what sbatch refuses, and for 0 (all)."""
    match = _MEM_OPTION.fullmatch(text)
    return None if match is None else _bytes(match[1], (match[2] or "M").upper()) or None


def human_bytes(size: int | None) -> str:
    """`32.29 GB`, `0.00 MB`, base 1024 as seff prints it; `unknown` for None and for what cannot be."""
    if size is None or not 0 <= size <= _LARGEST_BYTES:
        return "unknown"
    if size == 0:
        return "0.00 MB"
    value, unit = size / 1024, "K"
    for larger in _UNITS[1:]:
        # 1023.995 would be printed as 1024.00.
        if round(value, 2) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.2f} {unit}B"


def _bytes(number: str, unit: str) -> int:
    power = _UNITS.index(unit) + 1 if unit else 0
    factor: int = 1024**power
    return int(number) * factor if number.isdecimal() else round(float(number) * factor)
