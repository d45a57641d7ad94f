"""Prints the comparison."""

from collections.abc import Mapping

from verify_gpu.compare import Column

_WAYS = (
    ("our_mean", "evalmon, window mean"),
    ("our_gpm", "evalmon, GPM"),
    ("our_instant", "evalmon, instant"),
    ("their_instant", "nvidia-smi, instant"),
)


def text(found: Mapping[str, object], columns: list[Column], errors: dict[str, dict[str, float | None]]) -> str:
    """The whole report."""
    lines = [f"{name}: {value}" for name, value in found.items() if isinstance(value, (str, int, float))]
    lines += ["", "Utilization in %: mean, and mean distance from the truth per window", ""]
    lines += _grid(
        [["", "truth", *(title for _, title in _WAYS)], *(_phase(name, row) for name, row in errors.items())]
    )
    lines += ["", "The same columns", ""]
    header = ["", "evalmon's cells", "nvidia-smi's cells", "largest difference", "median"]
    lines += _grid([header, *(_column(column) for column in columns)])
    power = found["power"]
    assert isinstance(power, dict)
    lines += ["", "Power: " + ", ".join(f"{name} {_number(value)}" for name, value in power.items())]
    claims = found["verdicts"]
    assert isinstance(claims, dict)
    return "\n".join([*lines, "", *verdicts(claims)])


def verdicts(claims: Mapping[str, bool]) -> list[str]:
    """Each expectation, and whether it holds."""
    return [f"{'yes' if is_so else 'NO '}  {claim}" for claim, is_so in claims.items()]


def _phase(name: str, row: dict[str, float | None]) -> list[str]:
    cells = [f"{_number(row[way])} (off by {_number(row[f'{way}_off'])})" for way, _ in _WAYS]
    return [name, _number(row["truth"]), *cells]


def _column(column: Column) -> list[str]:
    shapes = ["; ".join(some) for some in (column.our_shapes, column.their_shapes)]
    return [column.name, *shapes, _number(column.apart_max), _number(column.apart_median)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _grid(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
