"""How is outside text written in a Markdown cell? Printable, and nothing in it is markup. Pure."""

from __future__ import annotations

import re

from evalmon_agent.words.printable import printable

# What Markdown would obey. An underscore inside a word and a bracket that starts no link stay readable in the raw text.
_MARKUP = re.compile(r"[\\`*|<&~]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")


def cell(text: str | None) -> str:
    """The text for a cell or a line; `unknown` for None."""
    return "unknown" if text is None else _MARKUP.sub(r"\\\g<0>", printable(text))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table of finished cells."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])
