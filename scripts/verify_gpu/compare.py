"""Compares evalmon's samples and nvidia-smi's with the true load. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

from evalmon_agent.words.csv_columns import GpuColumn
from verify_gpu.plan import Busy, Phase, busy_fraction
from verify_gpu.tables import SEVEN, Row, shape

UTILIZATION = GpuColumn.UTILIZATION_PCT.header
UTILIZATION_MEAN = GpuColumn.UTILIZATION_MEAN_PCT.header
ACTIVITY = GpuColumn.GRAPHICS_ACTIVITY_PCT.header
WAYS = ("our_mean", "our_gpm", "our_instant", "their_instant")
POWER, POWER_MEAN = GpuColumn.POWER_W.header, GpuColumn.POWER_MEAN_W.header
ENERGY = GpuColumn.ENERGY_J.header

# Programs allocate and free memory between two readings; version 1 of NVML's memory is hundreds of MiB off.
_MEMORY_APART_MIB = 2
_GPM_OFF_PCT = 10


@dataclass(frozen=True)
class Window:
    """The time between two of evalmon's ticks, utilization in percent. None: not known."""

    phase: str
    start_s: float
    end_s: float
    truth: float
    our_mean: float | None
    our_gpm: float | None
    our_instant: float | None
    their_instant: float | None


@dataclass(frozen=True)
class Column:
    """One of the seven columns in both files.

    Attributes:
        our_shapes: the formats of evalmon's cells, see tables.shape.
        apart_max, apart_median: of the differences between numbers taken at about the same time; None: there are none.
    """

    name: str
    our_shapes: list[str]
    their_shapes: list[str]
    apart_max: float | None
    apart_median: float | None = None


def windows(ours: Sequence[Row], theirs: Sequence[Row], busy: Sequence[Busy], phases: Sequence[Phase]) -> list[Window]:
    """One for each pair of ticks; `busy` and `phases` in unix seconds."""
    found = []
    for before, row in pairwise(ours):
        middle = (before.at + row.at) / 2
        phase = next((one.name for one in phases if one.start_s <= middle < one.end_s), "")
        if not phase:
            continue
        near = nearest(theirs, row.at)
        found.append(
            Window(
                phase=phase,
                start_s=before.at,
                end_s=row.at,
                truth=100 * busy_fraction(busy, before.at, row.at),
                our_mean=row.number(UTILIZATION_MEAN),
                our_gpm=row.number(ACTIVITY),
                our_instant=row.number(UTILIZATION),
                their_instant=near.number(UTILIZATION) if near else None,
            )
        )
    return found


def errors(found: Sequence[Window]) -> dict[str, dict[str, float | None]]:
    """Per phase and in total: the mean of each method, and its mean distance from the truth, in percentage points."""
    names = list(dict.fromkeys(window.phase for window in found))
    groups = {name: [window for window in found if window.phase == name] for name in names} | {"all": list(found)}
    return {name: _errors(group) for name, group in groups.items() if group}


def _errors(group: Sequence[Window]) -> dict[str, float | None]:
    row: dict[str, float | None] = {"truth": round(fmean(window.truth for window in group), 2)}
    for way in WAYS:
        pairs = [(window.truth, value) for window in group if (value := getattr(window, way)) is not None]
        row[way] = round(fmean(value for _, value in pairs), 2) if pairs else None
        row[f"{way}_off"] = round(fmean(abs(truth - value) for truth, value in pairs), 2) if pairs else None
    return row


def columns(ours: Sequence[Row], theirs: Sequence[Row]) -> list[Column]:
    """Whether each of the seven columns has the same format in both, and how far they differ."""
    return [
        Column(
            name,
            sorted({shape(row.cells.get(name, "")) for row in ours}),
            sorted({shape(row.cells.get(name, "")) for row in theirs}),
            *((None, None) if name == GpuColumn.TIMESTAMP.header else _apart(name, ours, theirs)),
        )
        for name in SEVEN
    ]


def power(ours: Sequence[Row], theirs: Sequence[Row]) -> dict[str, float | None]:
    """Mean power in W by each method, and evalmon's energy in J over its windows."""
    energy = [value for row in ours if (value := row.number(ENERGY)) is not None]
    return {
        "our_window_mean_w": _mean(ours, POWER_MEAN),
        "our_instant_w": _mean(ours, POWER),
        "their_instant_w": _mean(theirs, POWER),
        "our_energy_j": round(sum(energy), 1) if energy else None,
    }


def verdicts(
    header: str,
    their_header: str,
    found: Sequence[Column],
    off: dict[str, float | None],
) -> dict[str, bool]:
    """The expectations."""
    our_off, their_off, gpm_off = (off.get(f"{way}_off") for way in ("our_mean", "their_instant", "our_gpm"))
    claims = {
        "our header begins with nvidia-smi's": header == their_header or header.startswith(their_header + ", "),
        "the cells look the same": all(_look_the_same(column) for column in found),
        "memory is nvidia-smi's": all(
            (column.apart_median or 0) <= _MEMORY_APART_MIB for column in found if column.name.startswith("memory.")
        ),
        "window means are nearer to the truth than nvidia-smi's instants": (
            our_off is not None and their_off is not None and our_off < their_off
        ),
    }
    if gpm_off is not None:  # Hopper and later
        claims["GPM's graphics activity is near to the truth"] = gpm_off <= _GPM_OFF_PCT
    return claims


def nearest(rows: Sequence[Row], at: float) -> Row | None:
    """The row whose time is nearest."""
    return min(rows, key=lambda row: abs(row.at - at), default=None)


def _look_the_same(column: Column) -> bool:
    # A value may occur in only one of them: one format must be common, and none may have another unit.
    return bool(set(column.our_shapes) & set(column.their_shapes))


def _apart(name: str, ours: Sequence[Row], theirs: Sequence[Row]) -> tuple[float | None, float | None]:
    distances = []
    for row in ours:
        near = nearest(theirs, row.at)
        mine, other = row.number(name), near.number(name) if near else None
        if mine is not None and other is not None:
            distances.append(abs(mine - other))
    return (round(max(distances), 2), round(median(distances), 2)) if distances else (None, None)


def _mean(rows: Sequence[Row], column: str) -> float | None:
    values = [value for row in rows if (value := row.number(column)) is not None]
    return round(fmean(values), 2) if values else None
