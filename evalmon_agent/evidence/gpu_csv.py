"""Reads the rows of a gpu_metrics.csv: nvidia-smi's seven columns or ours, whole files and tails. Pure.

Nothing here raises. A line that is not a whole row is counted and left out: a torn power cell shall never be
read as 2 W. The format is that of `nvidia-smi --query-gpu=... --format=csv`, also with `nounits` and `noheader`, and,
under a header that has `timestamp`, with other columns, order and units.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

from evalmon_agent.words.csv_columns import LEADING_COLUMNS, NVIDIA_SMI_COLUMNS, GpuColumn

_SMI_HEADERS = tuple(column.header for column in NVIDIA_SMI_COLUMNS)
OUR_COLUMNS = tuple(column.header for column in LEADING_COLUMNS)

_STAMP = GpuColumn.TIMESTAMP.header
_HEADER_CELL = re.compile(r"([A-Za-z][\w.]*)(?: ?\[([^\]]{1,20})\])?", re.ASCII)
_HEADER_START = re.compile(rf"{_STAMP}, ?(?=[A-Za-z])")
_PATTERNS = {column: re.compile(column.cell.pattern, re.ASCII) for column in GpuColumn}
_TIME = _PATTERNS[GpuColumn.TIMESTAMP]
_BY_NAME = {column.header.partition(" [")[0]: column for column in LEADING_COLUMNS}
# `[N/A]`, `[Not Supported]`, `[GPU is lost]` and the like, and what nvidia-smi's table prints for them.
_NO_VALUE = re.compile(r"(?:\[[A-Za-z/ ]{1,40}\]|N/A|ERR!|Unknown Error|Not Supported)(?: ?(?:%|MiB|W))?", re.ASCII)
_NUMBER = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(?: ?([A-Za-z%]{1,8}))?", re.ASCII)
_UNITS = {
    "%": {"%": 1.0},
    "MiB": {"B": 2.0**-20, "KiB": 2.0**-10, "MiB": 1.0, "GiB": 2.0**10, "KB": 1e3 / 2**20, "MB": 1e6 / 2**20}
    | {"kB": 1e3 / 2**20, "GB": 1e9 / 2**20},
    "W": {"mW": 1e-3, "W": 1.0, "kW": 1e3},
}
"""By the unit in which a value is kept, what others are in it."""
# Local time is at most 14 h away from UTC; a torn `timestamp_unix` is much farther away.
_MAX_OFFSET_S = 15 * 3600
# Farther away some zone's time is none that a computer knows.
_YEARS = range(1970, 9999)
_TORN = ""
# nvmlClocksEventReason* (nvml.h): the power cap, and what makes a GPU slower than its settings would.
_SW_POWER_CAP = 0x04
_THROTTLED = 0x08 | 0x20 | 0x40 | 0x80  # HW slowdown, SW thermal, HW thermal, HW power brake
_NEAR = 0.95


@dataclass(frozen=True, slots=True)
class GpuRow:
    """One GPU at one moment; None if the cell has no value, or there is no such column."""

    line: int
    """Its line number, from 0."""
    beside_bad_line: bool
    """A neighbouring line could not be read or was cut off, so rows of its tick may be missing."""
    local_time: datetime
    """As printed, without a zone; an hour repeats when daylight saving ends."""
    utilization_pct: float | None
    memory_utilization_pct: float | None
    memory_used_mib: int | None
    memory_total_mib: int | None
    power_w: float | None
    temperature_c: int | None
    index: str | None = None
    uuid: str | None = None
    timestamp_unix_s: float | None = None
    extras: dict[str, str] = field(default_factory=dict)
    """The columns behind these, by header, as text."""

    @property
    def gpu(self) -> str | None:
        """Identifies a GPU of the job; None in nvidia-smi's own files."""
        return self.uuid or self.index

    @property
    def at(self) -> float:
        """Epoch seconds; of a local time without a zone, by the zone of this process."""
        return self.local_time.timestamp() if self.timestamp_unix_s is None else self.timestamp_unix_s

    def cell(self, column: GpuColumn) -> str | None:
        """The value of a further column, without its unit; None if the cell has none or is missing."""
        match = _PATTERNS[column].fullmatch(self.extras.get(column.header, ""))
        return match[1] if match else None

    def number(self, column: GpuColumn) -> float | None:
        """The same as a number (CLOCK_REASONS is none); None also for one that cannot be."""
        text = self.cell(column)
        return float(text) if text is not None and float(text) <= column.cell.highest else None

    @property
    def busy_pct(self) -> float | None:
        """How busy the GPU was: the mean since the row before, if the file has it; else at that instant.

        GPM's graphics activity (Hopper and later, MIG instances too) covers all of that time, as the mean of the
        driver's samples does elsewhere. Both count the time in which any kernel ran. An instant is 1/6 to 1 s of it.
        """
        mean = self.mean_pct
        return self.utilization_pct if mean is None else mean

    @property
    def mean_pct(self) -> float | None:
        """The same, without values of an instant."""
        activity = self.number(GpuColumn.GRAPHICS_ACTIVITY_PCT)
        return self.number(GpuColumn.UTILIZATION_MEAN_PCT) if activity is None else activity

    @property
    def memory_peak_mib(self) -> float | None:
        """The most memory used since the row before, if the file has it; else at that instant."""
        peak = self.number(GpuColumn.MEMORY_MAX_MIB)
        return self.memory_used_mib if peak is None else peak

    @property
    def is_instance(self) -> bool:
        """Whether it is a MIG instance, whose power is that of the whole GPU, which others use too."""
        return self.uuid is not None and self.uuid.startswith("MIG-")

    @property
    def is_near_power_cap(self) -> bool | None:
        """Whether the power limit held it back, or it drew 95 % of that."""
        if self.is_instance:
            return None
        reasons, limit_w = self._clock_reasons, self.number(GpuColumn.POWER_LIMIT_W)
        drawn_w = self.number(GpuColumn.POWER_MEAN_W)
        drawn_w = self.power_w if drawn_w is None else drawn_w
        if reasons is not None and reasons & _SW_POWER_CAP:
            return True
        if not limit_w or drawn_w is None:
            return None if reasons is None else False
        return drawn_w >= _NEAR * limit_w

    @property
    def is_throttled(self) -> bool | None:
        """Whether heat, a failing power supply or the board slowed it down."""
        reasons = self._clock_reasons
        return None if reasons is None else bool(reasons & _THROTTLED)

    @property
    def _clock_reasons(self) -> int | None:
        mask = self.cell(GpuColumn.CLOCK_REASONS)
        return None if mask is None else int(mask, 16)


@dataclass(frozen=True, slots=True)
class GpuTable:
    """The complete rows of a text in order, and how many other lines there are between them."""

    rows: tuple[GpuRow, ...]
    bad_lines: int


def parse(text: str | bytes) -> GpuTable:
    """Read a file or the tail of one.

    Repeated headers, CRLF, NULs, foreign and torn lines are fine. A last line without its newline is torn,
    whatever it looks like. Without a header (a tail) the number of cells that most rows have decides.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    pieces = list(_pieces(text))
    columns = _columns_of_tail(pieces)
    rows: list[GpuRow] = []
    bad: set[int] = set()
    for number, piece in enumerate(pieces):
        cells = _cells(piece)
        if cells is None:
            bad.add(number)
        elif _STAMP in cells:
            columns = tuple(map(_column, cells))
        elif (row := _row(cells, columns, number)) is None:
            bad.add(number)
        else:
            rows.append(row)
    # A row that comes first, without a header, is where a tail was cut.
    beside = {0} | {number + step for number in bad for step in (-1, 1)}
    marked = (replace(row, beside_bad_line=True) if row.line in beside else row for row in rows)
    return GpuTable(rows=tuple(marked), bad_lines=len(bad))


def _pieces(text: str) -> Iterator[str]:
    """The lines; a torn line that another writer continued is split into two."""
    *lines, rest = text.split("\n")
    is_time_first = True
    for line in lines:
        whole = line.removesuffix("\r")
        if not whole.strip():
            continue
        start = 0
        if _is_header(whole):
            is_time_first = whole.startswith(_STAMP)
        elif is_time_first or _HEADER_START.search(whole):
            start = _start_of_last_record(whole)
        if start:
            yield _TORN
            is_time_first = True
        yield whole[start:]
    if rest:
        yield _TORN


def _is_header(piece: str) -> bool:
    matches = [_HEADER_CELL.fullmatch(cell.strip()) for cell in piece.split(",")]
    names = [match[1] for match in matches if match is not None]
    return len(names) == len(matches) > 1 and _STAMP in names and not _BY_NAME.keys().isdisjoint({*names} - {_STAMP})


def _start_of_last_record(line: str) -> int:
    starts = [match.start() for match in _HEADER_START.finditer(line)] + [m.start() for m in _TIME.finditer(line)]
    return max(starts, default=0)


def _cells(piece: str) -> list[str] | None:
    """The cells of a row or a header; None for a piece that is neither."""
    cells = [cell.strip() for cell in piece.split(",")]
    is_row = any(_TIME.fullmatch(cell) for cell in cells)
    return cells if (is_row or _is_header(piece)) and "\0" not in piece else None


def _column(cell: str) -> str:
    """The header that stands for this column here: with the usual unit, unless the file has another."""
    match = _HEADER_CELL.fullmatch(cell)
    usual = _BY_NAME.get(match[1]) if match else None
    return usual.header if usual and match and match[2] in {None, _unit(usual.header)} else cell


def _unit(header: str) -> str | None:
    return header.partition(" [")[2].removesuffix("]") or None


def _columns_of_tail(pieces: Sequence[str]) -> tuple[str, ...]:
    """The columns of the rows before the first header: as wide as most of them; ties: the wider."""
    widths: Counter[int] = Counter()
    for number, piece in enumerate(pieces):
        cells = _cells(piece)
        if cells is None or (len(cells) < len(_SMI_HEADERS) and _STAMP not in cells):
            continue
        if _STAMP in cells:
            break
        columns = _columns_of_width(len(cells))
        widths[len(cells)] += _row(cells, columns, number) is not None
    width = max(widths, key=lambda width: (widths[width], width), default=len(_SMI_HEADERS))
    return _columns_of_width(width)


def _columns_of_width(width: int) -> tuple[str, ...]:
    named = OUR_COLUMNS if width >= len(OUR_COLUMNS) else _SMI_HEADERS
    return named + ("",) * (width - len(named))


def _row(cells: Sequence[str], columns: Sequence[str], line: int) -> GpuRow | None:
    if len(cells) != len(columns):
        return None
    local_time = _time(cells[columns.index(_STAMP)])
    values: dict[GpuColumn, str | None] = {}
    extras: dict[str, str] = {}
    are_bare = set[bool]()
    for column, cell in zip(columns, cells, strict=True):
        usual = _BY_NAME.get(column.partition(" [")[0])
        if usual is None:
            extras |= {column: cell} if column else {}
        elif usual is not GpuColumn.TIMESTAMP:
            value = _value(cell, column, usual)
            if value is None:
                return None
            values[usual] = value.text
            are_bare |= value.are_bare
    # With `nounits` no cell has one; a row with both was put together from two.
    row = local_time and len(are_bare) < 2 and _typed(values, extras, local_time, line)
    return row if row and _is_plausible(row) else None


class _Value(NamedTuple):
    """A cell in its column's usual unit, None if it has no value. `are_bare`: whether it lacks a unit that is due."""

    text: str | None
    are_bare: frozenset[bool] = frozenset()


def _value(cell: str, column: str, usual: GpuColumn) -> _Value | None:
    """The cell of a column, which may have another unit than the usual one, by its header; None if it is torn."""
    unit, pattern = _unit(usual.header), _PATTERNS[usual]
    if _NO_VALUE.fullmatch(cell):
        return _Value(None)
    if unit not in _UNITS:
        match = pattern.fullmatch(cell)
        return None if match is None else _Value(match[1])
    number = _NUMBER.fullmatch(cell)
    if number is None:
        return None
    is_bare = number[2] is None
    there = number[2] or _unit(column) or unit
    if there == unit:
        match = pattern.fullmatch(f"{number[1]} {unit}" if is_bare else cell)
        return None if match is None else _Value(match[1], frozenset({is_bare}))
    factor = _UNITS[unit].get(there)
    value = None if factor is None else float(number[1]) * factor
    text = None if value is None else str(round(value) if unit == "MiB" else value)
    return _Value(text, frozenset({is_bare}))


def _typed(values: dict[GpuColumn, str | None], extras: dict[str, str], local_time: datetime, line: int) -> GpuRow:
    def number(column: GpuColumn) -> float | None:
        value = values.get(column)
        return None if value is None else float(value)

    def whole(column: GpuColumn) -> int | None:
        value = values.get(column)
        return None if value is None else int(value)

    return GpuRow(
        line=line,
        beside_bad_line=False,
        local_time=local_time,
        utilization_pct=number(GpuColumn.UTILIZATION_PCT),
        memory_utilization_pct=number(GpuColumn.MEMORY_UTILIZATION_PCT),
        memory_used_mib=whole(GpuColumn.MEMORY_USED_MIB),
        memory_total_mib=whole(GpuColumn.MEMORY_TOTAL_MIB),
        power_w=number(GpuColumn.POWER_W),
        temperature_c=whole(GpuColumn.TEMPERATURE_C),
        index=values.get(GpuColumn.INDEX),
        uuid=values.get(GpuColumn.UUID),
        timestamp_unix_s=number(GpuColumn.TIMESTAMP_UNIX_S),
        extras=extras,
    )


def _is_plausible(row: GpuRow) -> bool:
    if (row.utilization_pct or 0) > 100 or (row.memory_utilization_pct or 0) > 100:
        return False
    if row.timestamp_unix_s is None:
        return True
    printed_unix_s = row.local_time.replace(tzinfo=UTC).timestamp()
    return abs(row.timestamp_unix_s - printed_unix_s) <= _MAX_OFFSET_S


def _time(cell: str) -> datetime | None:
    if not _TIME.fullmatch(cell):
        return None
    try:
        time = datetime.strptime(cell, "%Y/%m/%d %H:%M:%S.%f")  # noqa: DTZ007 (nvidia-smi prints no zone)
    except ValueError:
        return None
    return time if time.year in _YEARS else None
