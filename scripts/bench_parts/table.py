"""Prints the figures as tables."""

from collections.abc import Mapping

_TITLES = {
    "true": "A command of no length (`true`): median (min to max)",
    "start": "When the command starts, after the start of what is around it",
    "long": "A long command (`sleep`), the command's own share not counted",
    "phases": "The sidecar while... and one poll (`a_poll`) of a process of its own",
    "polls": "A poll of an observer that lives, by what changed before it: median",
    "whole": "In all",
    "commands": "A command as people type it: median (min to max)",
    "ticks": "The sampler alone, a tick a second; hours with one each 30 s",
    "GPU looks": "The sampler alone between two ticks: a look a second",
    "eval_looks": "The sampler's looks for evals, one a second",
}


def text(figures: Mapping[str, object]) -> str:
    """All measurements, a table for each part."""
    blocks = [
        _machine(figures, "machine"),
        *(_block(title, figures[key]) for key, title in _TITLES.items() if key in figures),
    ]
    targets = [_targets(figures["targets"])] if "targets" in figures else []
    return "\n\n".join([*blocks, *targets, _machine(figures, "machine_after")])


def _machine(figures: Mapping[str, object], key: str) -> str:
    return ", ".join(f"{name} {value}" for name, value in _mapping(figures[key]).items())


def _block(title: str, rows: object) -> str:
    cells = {name: {key: _cell(value) for key, value in _mapping(row).items()} for name, row in _mapping(rows).items()}
    columns = list(dict.fromkeys(key for row in cells.values() for key in row))
    return _grid(
        title, [["", *columns], *([name, *(row.get(column, "") for column in columns)] for name, row in cells.items())]
    )


def _grid(title: str, grid: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*grid, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in grid]
    return "\n".join([title, *lines])


def _targets(rows: object) -> str:
    """Each target beside the measurement; the median if there are several runs."""
    assert isinstance(rows, list)
    words = {True: "yes", False: "NO", None: "not measured"}
    grid = [
        [words[row["is_met"]], row["what"], _amount(row["measured"], row), f"at most {_amount(row['at_most'], row)}"]
        for row in rows
    ]
    return _grid("Targets", grid)


def _amount(value: float | None, row: Mapping[str, object]) -> str:
    return "-" if value is None else f"{value:{'.4g' if value < 1000 else ',.0f'}} {row['unit']}"


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{value['median']:g} ({value['min']:g} to {value['max']:g})"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mapping(value: object) -> Mapping[str, object]:
    assert isinstance(value, Mapping)
    return value
