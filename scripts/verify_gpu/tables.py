"""Reads what `evalmon sample` and nvidia-smi wrote, as rows of cells with the time. Pure."""

from dataclasses import dataclass
from datetime import datetime

from evalmon_agent.words.csv_columns import NVIDIA_SMI_COLUMNS, GpuColumn

SEVEN = tuple(column.header for column in NVIDIA_SMI_COLUMNS)


@dataclass(frozen=True)
class Row:
    """One GPU at one time."""

    at: float
    cells: dict[str, str]

    def number(self, column: str) -> float | None:
        """The cell's number without its unit; None if there is none."""
        try:
            return float(self.cells[column].split()[0])
        except (KeyError, IndexError, ValueError):
            return None


def read(text: str) -> list[Row]:
    """The rows; an incomplete last line is left out."""
    header, *lines = text[: text.rfind("\n") + 1].splitlines() or [""]
    names = header.split(", ")
    rows = [dict(zip(names, line.split(", "), strict=False)) for line in lines]
    return [Row(_time(cells), cells) for cells in rows]


def shape(cell: str) -> str:
    """The cell's format without its number: `37 %` equals `9 %`, `180.40 W` equals `9.99 W`."""
    whole, point, fraction = cell.partition(".")
    digits = "".join("9" if letter.isdigit() else letter for letter in fraction)
    return "".join(_once(whole)) + point + digits


def _once(text: str) -> str:
    found = ""
    for letter in text:
        if not letter.isdigit():
            found += letter
        elif not found.endswith("9"):
            found += "9"
    return found


def _time(cells: dict[str, str]) -> float:
    exact = cells.get(GpuColumn.TIMESTAMP_UNIX_S.header)
    if exact:
        return float(exact)
    return datetime.strptime(cells[GpuColumn.TIMESTAMP.header], "%Y/%m/%d %H:%M:%S.%f").timestamp()  # noqa: DTZ007 (local)
