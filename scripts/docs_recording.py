"""Draws a recorded terminal session (asciicast v2) as an animated SVG, which needs no player."""

import json
import re
import sys
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from pathlib import Path

import pyte
from pyte.screens import Char

COLUMN_PX, ROW_PX, MARGIN_PX = 8.4, 19, 14
COLORS = {
    "default": "#d7dae0", "red": "#ff7b86", "green": "#98d982", "brown": "#e8c872", "blue": "#74b2ff",
    "magenta": "#d99cf0", "cyan": "#62ccd8",
}  # fmt: skip
AT_MOST_S = 1.5
"""How long nothing may happen; a longer time is cut."""
HEADING_S, PAGE_S, END_S = 2.5, 4.0, 8.0
"""How long the screen stands before a heading, when a page is full, and at the end (also of a live table)."""


@dataclass
class Film:
    """The screens of a session, each with how long it is shown; a screen is the SVG of each of its rows."""

    screen: pyte.Screen
    frames: list[tuple[list[str], float]] = field(default_factory=list)

    def show(self, seconds: float) -> None:
        """Add the current screen for that long; an unchanged screen is only shown longer."""
        rows = [self._row(number) for number in range(self.screen.lines)]
        if self.frames and self.frames[-1][0] == rows:
            seconds += self.frames.pop()[1]
        self.frames.append((rows, seconds))

    def _row(self, number: int) -> str:
        cells = self.screen.buffer[number]
        at, parts = 0, []
        row = [cells[x] for x in range(self.screen.columns)]
        for (fg, bold), run in groupby(row, lambda cell: (cell.fg, cell.bold)):
            text = "".join(cell.data for cell in run)
            if text.strip():
                parts.append(_text(text, Char(data="", fg=fg, bold=bold), at=at))
            at += len(text)
        return "".join(parts)


def _text(text: str, style: Char, *, at: int) -> str:
    skipped = len(text) - len(text.lstrip())
    text = text.strip()
    x, width = (at + skipped) * COLUMN_PX, len(text) * COLUMN_PX
    color = COLORS.get(style.fg.removeprefix("bright"), f"#{style.fg}")  # a name, or six hex digits
    marks = f' fill="{color}"' if style.fg != "default" else ""
    marks += ' font-weight="bold"' if style.bold else ""
    return f'<text x="{x:g}" textLength="{width:g}"{marks}>{escape(text, quote=False)}</text>'


def film_of(cast: str) -> Film:
    """The frames of a recording, at a readable pace."""
    head, *events = [json.loads(line) for line in cast.splitlines()]
    film = Film(pyte.Screen(head["width"], head["height"]))
    stream = pyte.Stream(film.screen)
    now, since_pause, is_table = 0.0, 0, False
    for at, _, data in events:
        if film.frames:
            film.show(min(at - now, AT_MOST_S))
        now = at
        # A table that is drawn again over itself is one screen.
        lines = [data] if "\x1b[1A" in data else data.splitlines(keepends=True)
        for line in lines:
            if line.lstrip().startswith("\x1b[1m"):
                film.show(END_S if is_table else HEADING_S)
                since_pause, is_table = 0, False
            elif since_pause >= film.screen.lines - 4:
                film.show(PAGE_S)
                since_pause = 0
            stream.feed(line)
            is_table = is_table or "\x1b[1A" in line
            since_pause += 1
        film.show(0)
    film.show(END_S)
    return film


def svg(film: Film) -> str:
    """All screens in one column, of which one is shown at a time; equal rows are written once."""
    width = film.screen.columns * COLUMN_PX + 2 * MARGIN_PX
    height = film.screen.lines * ROW_PX + 2 * MARGIN_PX
    frames = [(rows, seconds) for rows, seconds in film.frames if seconds > 0]
    total = sum(seconds for _, seconds in frames)
    names: dict[str, str] = {}
    screens, steps, at = [], [], 0.0
    for number, (rows, seconds) in enumerate(frames):
        steps.append(f"{100 * at / total:.3f}%{{transform:translateY({-number * height:g}px)}}")
        at += seconds
        uses = "".join(
            f'<use href="#{names.setdefault(row, f"r{len(names)}")}" y="{number * height + (y + 1) * ROW_PX:g}"/>'
            for y, row in enumerate(rows)
            if row
        )
        screens.append(uses)
    last = f"{-(len(frames) - 1) * height:g}"
    rows_once = "".join(f'<g id="{name}">{row}</g>' for row, name in names.items())
    style = (
        "text{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:14px;"
        "white-space:pre}"
        f"#film{{animation:film {total:.2f}s step-end infinite}}@keyframes film{{{''.join(steps)}}}"
        f"@media(prefers-reduced-motion){{#film{{animation:none;transform:translateY({last}px)}}}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img">'
        f"<title>A recorded run of scripts/demo</title><style>{style}</style><defs>{rows_once}</defs>"
        f'<rect width="100%" height="100%" rx="8" fill="#1e222a"/>'
        f'<svg x="{MARGIN_PX}" y="{MARGIN_PX - 4}"><g id="film" fill="{COLORS["default"]}">{"".join(screens)}</g></svg>'
        "</svg>\n"
    )


if __name__ == "__main__":
    cast, image, checkout = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    text = cast.read_text().replace(checkout, "/home/me/evalmon")
    image.write_text(svg(film_of(re.sub(r"(?<=\\u001b\[)\?25[hl]", "m", text))))
