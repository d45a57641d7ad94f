"""Loads samples of seff's and sacct's output, each with the values that parsing should give.

The project's own samples, one of each shape with invented values, are in slurm/samples: the text, then `>>> ` and the
expected values as JSON; a sample of sacct begins with the command. Those from the field are outside the repository.
"""

import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalmon_agent.slurm.sacct import FIELDS
from evalmon_agent.words import durations

FIELD = Path(os.environ.get("EVALMON_TEST_VECTORS") or Path(__file__).resolve().parents[2] / "shared" / "vectors")
OWN = Path(__file__).with_name("slurm") / "samples"
# Right after the end, from inside the job, never started, truncated: reports that must not be accepted.
_NOT_USABLE = ("13_", "15_", "17_", "39_", "43_")


@dataclass(frozen=True)
class Sample:
    """Printed text and its expected values; None: only that parsing does not raise.

    `columns` is None where a header line names them.
    """

    name: str
    printed: str
    expected: Any
    columns: list[str] | None = None
    delimiter: str = "|"


def seff_samples() -> list[Sample]:
    """All samples of seff. The expected values include `usable`; None is expected of text that is no report of seff."""
    samples = [_own(path) for path in sorted((OWN / "seff").glob("*.txt"))]
    for path in sorted((FIELD / "seff").glob("*.txt")):
        expected = json.loads(path.with_suffix(".json").read_text())
        expected["usable"] = not path.name.startswith(_NOT_USABLE)
        is_report = expected["kind"] == "seff"
        samples.append(Sample(path.stem, path.read_text(errors="replace"), expected if is_report else None))
    return samples


def sacct_samples() -> list[Sample]:
    """All samples of sacct."""
    samples = []
    for sample in [_own(path) for path in sorted((OWN / "sacct").glob("*.txt"))]:
        command, _, printed = sample.printed.partition("\n")
        options = dict(word.partition("=")[::2] for word in shlex.split(command))
        columns = options["--format"].split(",") if "-n" in options else None
        samples.append(Sample(sample.name, printed, sample.expected, columns, options.get("--delimiter", "|")))
    for path in sorted((FIELD / "sacct").glob("*.txt")):
        found = json.loads(path.with_suffix(".json").read_text())
        printed = path.read_text(errors="replace")
        delimiter = next((delimiter for delimiter in ("^|^", "|#") if delimiter in printed), "|")
        # 19 to 31 expect nothing, 33 is a table without ids, 37 an error message.
        expected = None if re.match(r"19|2[579]|3", path.stem) else found["expected"]
        samples.append(Sample(path.stem, printed, expected, found["columns"], delimiter))
    return samples


def sacct_rows(sample: Sample) -> list[dict[str, str]]:
    """Its rows as the columns that evalmon asks for; those that it lacks are empty. None where it has no ids."""
    lines = sample.printed.split("\n")
    columns = sample.columns or lines.pop(0).split(sample.delimiter)
    rows, begun = [], ""
    for line in lines if "JobID" in columns else ():
        begun += f"\n{line}" if begun else line
        cells = begun.split(sample.delimiter)
        if len(cells) >= len(columns):
            rows.append(_raw(dict(zip(columns, cells, strict=False))))
            begun = ""
    return rows


def _raw(row: dict[str, str]) -> dict[str, str]:
    elapsed_s = durations.parse(row.get("Elapsed", ""))
    limit_s = durations.parse(row.get("Timelimit", ""))
    return {
        **dict.fromkeys(FIELDS, ""),
        "ElapsedRaw": "" if elapsed_s is None else f"{elapsed_s:.0f}",
        "TimelimitRaw": "" if limit_s is None else f"{limit_s / 60:.0f}",
        **row,
    }


def _own(path: Path) -> Sample:
    printed, _, expected = path.read_text(errors="replace").rpartition(">>> ")
    return Sample(path.stem, printed, json.loads(expected))
