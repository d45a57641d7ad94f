"""Checks whether the demo ended as it should: `check_outcome.py EXP`, exit status 0 or 1."""

import json
import sys
from pathlib import Path

from cells import CELLS


def main() -> int:
    """Compare summary.json with the intended ends of the evals."""
    summary = json.loads((Path(sys.argv[1]) / "evalmon" / "summary.json").read_text(encoding="utf-8"))
    found = {entry["name"]: (entry["state"], entry["verdict"]) for entry in summary["evals"]}
    expected = {cell.name: (cell.state, cell.verdict) for cell in CELLS}
    differing = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    for name in differing:
        print(f"  {name}: {_words(found.get(name))}, expected {_words(expected.get(name))}")
    if differing:
        print(f"{len(differing)} of {len(expected)} evaluations did not end as the demo meant them to.")
        return 1
    print(f"All {len(expected)} evaluations ended as the demo meant them to.")
    return 0


def _words(outcome: tuple[str, str] | None) -> str:
    return f"{outcome[0]} ({outcome[1]})" if outcome else "not there"


if __name__ == "__main__":
    sys.exit(main())
