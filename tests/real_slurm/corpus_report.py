"""Prints the table of the corpus: how each script ended with evalmon and without."""

from __future__ import annotations

from collections import defaultdict

import pytest

from real_slurm.corpus_runs import CORPUS, Pair

_runs: dict[str, list[Pair]] = defaultdict(list)


def note(name: str, pair: Pair) -> None:
    """Add one script's run to the table."""
    _runs[name].append(pair)


def show(reporter: pytest.TerminalReporter) -> None:
    """Print the table, if the corpus ran."""
    if not _runs:
        return
    reporter.section("scripts with evalmon and without")
    for name, pairs in sorted(_runs.items()):
        same = sum(pair.ours.jobs == pair.plain.jobs and pair.ours.files == pair.plain.files for pair in pairs)
        rows, files = len(pairs[-1].plain.jobs), len(pairs[-1].plain.files)
        reporter.line(
            f"{name:20} {same} of {len(pairs)} the same  {rows:2} rows in sacct, {files} files: "
            f"{pairs[-1].ours.state}  # {_title(name)}"
        )


def _title(name: str) -> str:
    lines = (CORPUS / f"{name}.slurm").read_text(errors="replace").splitlines()
    return next(line for line in lines[1:] if line.startswith("# ")).removeprefix("# ")
