"""Draws the plots of report.html, in a process of its own: `python -m evalmon_agent.report_page.draw EXP ID`.

Prints a line of JSON for each plot, `[kind, key, svg]`, as soon as it is drawn: if the process is killed, the earlier
ones are used. A plot holds numbers only; names and other outside text stay in the page, where they are escaped.
"""

from __future__ import annotations

import json
import os
import re
import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from operator import attrgetter
from statistics import median
from typing import Any

import msgspec

from evalmon_agent.collect.attempt_files import AttemptSpan
from evalmon_agent.collect.collect import read_gpu_rows
from evalmon_agent.evidence.gpu_csv import GpuRow
from evalmon_agent.experiment.experiment import Experiment
from evalmon_agent.files.trusted import OwnedFiles
from evalmon_agent.report_page.page import DRAWN_AT_MOST, drawn_evals, stamp
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.summary.scores import Row, score_table

Sample = tuple[float, float]
"""Seconds since the start, and percent."""
Bucket = tuple[float, float, float, float]
"""Seconds since the start, and the lowest, mean and highest percent."""

_DATA_AT_MOST_BYTES = 800 << 20
"""vl-convert's JavaScript engine reserves 600 MiB of data, and uses 130 to 160 MiB of it."""
_CPUS_AT_MOST = 2
"""It starts a thread for each CPU."""
_BUCKETS = 60
_WIDTH, _HEIGHT = 240, 40
_SCORE_WIDTH, _SCORE_HEIGHT = 150, 44
_SLACK_S = 60.0
_ROLES = re.compile(r' (?:role|aria-roledescription|aria-hidden|class|xmlns:xlink|version)="[^"]*"')
# A bucket this many sampling intervals wide is empty only where samples are missing.
_INTERVALS_PER_BUCKET = 1.25


def main() -> None:
    """Print the plots of the experiment at the path that is the first argument and has the id that is the second."""
    root, experiment_id = sys.argv[1:]
    _bound()
    from vl_convert import vegalite_to_svg  # noqa: PLC0415 - it starts threads, so after the bounds

    experiment = Experiment.at(root)
    experiment.expect(experiment_id or None)
    with open(experiment.summary_json, "rb") as file:
        summary = msgspec.json.decode(file.read(), type=Summary)
    for kind, key, spec in specs(summary, OwnedFiles(os.geteuid())):
        print(json.dumps((kind, key, _plain(vegalite_to_svg(spec)))), flush=True)  # noqa: T201 - its only output


def _bound() -> None:
    _, at_most = resource.getrlimit(resource.RLIMIT_DATA)
    data = _DATA_AT_MOST_BYTES if at_most == resource.RLIM_INFINITY else min(at_most, _DATA_AT_MOST_BYTES)
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CPUS_AT_MOST])
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # where memory runs out all the same, this process is the one to go


def _plain(svg: str) -> str:
    """Without the roles of its parts: the page says what the plot shows, and the parts have no names."""
    return _ROLES.sub("", svg)


def specs(summary: Summary, files: OwnedFiles) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind, key and Vega-Lite specification of each plot, those of evals that need attention first."""
    table = score_table(summary.evals)
    for row in table.rows[:DRAWN_AT_MOST]:
        if len(row.points) > 1:
            low, high = table.range_of(row)
            yield "score", row.key, score_spec(row, low=low, high=high)
    for ev in drawn_evals(summary):
        samples = read_samples(files, ev)
        for kind, value_of in (("utilization", attrgetter("busy_pct")), ("memory", memory_pct)):
            buckets = downsampled([(at, pct) for at, row in samples if (pct := value_of(row)) is not None])
            if buckets:
                yield kind, ev.name, use_spec(buckets, end_s=ev.elapsed_s)


def read_samples(files: OwnedFiles, ev: EvalSummary) -> list[tuple[float, GpuRow]]:
    """The rows that the last attempt wrote, each with the seconds since its start; never a neighbour's."""
    started_at, ended_at = stamp(ev.started), stamp(ev.ended)
    if started_at is None:
        return []
    nodes = read_gpu_rows(files, ev.output_dir, AttemptSpan(started_at, ended_at, slack_s=_SLACK_S))
    rows = [row for rows_of_node in nodes for row in rows_of_node]
    times = [row.at for row in rows]
    # nvidia-smi's own rows have no zone: where they seem to lie elsewhere, their first is the start.
    begin = started_at if times and abs(min(times) - started_at) < _SLACK_S else min(times, default=0.0)
    return sorted(((max(at - begin, 0.0), row) for at, row in zip(times, rows, strict=True)), key=lambda pair: pair[0])


def memory_pct(row: GpuRow) -> float | None:
    """The most memory used since the row before, as a part of the GPU's; None if either is not known."""
    used_mib = row.memory_peak_mib
    return None if used_mib is None or not row.memory_total_mib else min(100 * used_mib / row.memory_total_mib, 100.0)


def downsampled(samples: Sequence[Sample]) -> list[Bucket]:
    """About 60 buckets that keep the peaks; time without samples has none. `samples` are in order of time."""
    if not samples:
        return []
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(samples) if later > earlier]
    width_s = max(samples[-1][0] / _BUCKETS, _INTERVALS_PER_BUCKET * median(gaps or [1.0]))
    by_bucket: dict[int, list[float]] = {}
    for at, pct in samples:
        by_bucket.setdefault(int(at / width_s), []).append(pct)
    return [(n * width_s, min(pcts), sum(pcts) / len(pcts), max(pcts)) for n, pcts in by_bucket.items()]


def _steps(buckets: Sequence[Bucket]) -> Iterator[dict[str, float | None]]:
    """The buckets as a stepped line has them: each stretch ends with its last values, and a gap follows it."""
    width_s = min((later[0] - earlier[0] for earlier, later in pairwise(buckets)), default=1.0)
    for bucket, later in zip(buckets, [*buckets[1:], None], strict=True):
        yield _point(bucket[0], bucket)
        if later is None or later[0] - bucket[0] > 1.5 * width_s:
            yield _point(bucket[0] + width_s, bucket)
            yield {"t": round(bucket[0] + width_s, 1), "low": None, "mean": None, "high": None}


def _point(at: float, bucket: Bucket) -> dict[str, float | None]:
    return {"t": round(at, 1), "low": round(bucket[1], 1), "mean": round(bucket[2], 1), "high": round(bucket[3], 1)}


def use_spec(buckets: Sequence[Bucket], *, end_s: float | None) -> dict[str, Any]:
    """Percent over time: the band reaches from the lowest to the highest value of all GPUs, the line is the mean."""
    points = list(_steps(buckets))
    end = max(end_s or 0.0, *(point["t"] or 0.0 for point in points))
    x = {"field": "t", "type": "quantitative", "axis": None, "scale": {"domain": [0, end], "nice": False}}
    grid = {"values": [0, 50, 100], "labels": False, "ticks": False, "domain": False, "title": None}
    y = {"type": "quantitative", "scale": {"domain": [0, 100]}, "axis": grid}
    return _spec(
        (_WIDTH, _HEIGHT),
        points,
        [
            (
                {"type": "area", "interpolate": "step-after", "opacity": 0.25},
                {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}},
            ),
            ({"type": "line", "interpolate": "step-after", "strokeWidth": 1.25}, {"x": x, "y": y | {"field": "mean"}}),
        ],
    )


def score_spec(row: Row, *, low: float, high: float) -> dict[str, Any]:
    """A score over the epochs with its standard errors, between the lowest and the highest value of the axis."""
    points = [
        {"e": epoch, "v": value, "low": value - (error or 0), "high": value + (error or 0)}
        for epoch, value, error in row.points
    ]
    x = {"field": "e", "type": "quantitative", "axis": None, "scale": {"zero": False, "nice": False, "padding": 6}}
    y = {"type": "quantitative", "scale": {"domain": [low, high], "nice": False}, "axis": None}
    return _spec(
        (_SCORE_WIDTH, _SCORE_HEIGHT),
        points,
        [
            ({"type": "line", "strokeWidth": 1, "opacity": 0.5}, {"x": x, "y": y | {"field": "v"}}),
            ({"type": "rule", "strokeWidth": 1.25}, {"x": x, "y": y | {"field": "low"}, "y2": {"field": "high"}}),
            ({"type": "point", "filled": True, "size": 11, "opacity": 1}, {"x": x, "y": y | {"field": "v"}}),
        ],
    )


def _spec(
    size: tuple[int, int], values: Sequence[dict[str, Any]], layers: Sequence[tuple[dict[str, Any], dict[str, Any]]]
) -> dict[str, Any]:
    """A specification in the colour of the text around it, without a word in it."""
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": size[0],
        "height": size[1],
        "padding": 1,
        "background": None,
        "data": {"values": values},
        "layer": [{"mark": mark, "encoding": encoding} for mark, encoding in layers],
        "config": {
            "aria": False,
            "view": {"stroke": None},
            "axis": {"gridColor": "currentColor", "gridOpacity": 0.2},
            "mark": {"color": "currentColor"},
            "rule": {"color": "currentColor"},
        },
    }


if __name__ == "__main__":
    main()
