"""Lists the faults that evalmon must survive, and prints a table of those that this test run caused.

A test says what it makes with `@pytest.mark.survives("F1", "S3")`; the table at the end of the run counts them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

FAULTS = {
    "F1": "killed at any system call of a save",
    "F2": "disk full, quota exceeded",
    "F3": "I/O errors, stale handles, time-outs of the file system",
    "F4": "fsync of a directory refused, error on close",
    "F5": "flock unsupported or local to a node",
    "F6": "lock left by a dead process, a reused pid, a dead node",
    "F7": "two observers at once, one of them stopped and resumed",
    "F8": "500, then 5,000 jobs reporting at once",
    "F9": "clocks that jump, differ, or change for daylight saving",
    "F10": "state truncated, zeroed, huge, malformed",
    "F11": "newer schema, unknown fields",
    "F12": "torn last lines, repeated headers",
    "F13": "garbage from squeue and sacct",
    "F14": "Slurm commands that hang or leave processes behind",
    "F15": "slurmctld, slurmdbd or both down, or flapping",
    "F16": "squeue empty while jobs run",
    "F17": "jobs purged, accounting disabled",
    "F18": "requeue, preemption, node failure, host OOM, limits, arrays, het jobs, recycled ids",
    "F19": "the sidecar at its limit, preempted, requeued, cancelled, its node lost",
    "F20": "monitor jobs refused, or sbatch killed half-way",
    "F21": "no GPU, no driver, mismatch, MIG, GPU lost and back, NVML hanging",
    "F22": "the shared directory gone or read-only for a while",
    "F23": "HUP, INT, TERM at any step, twice",
    "F24": "no processes, descriptors or memory left",
    "F25": "an eval that uses all but 40 MiB of its memory; death of a helper process",
    "F26": "killed at any point of an observer's transaction",
    "F27": "the eval itself killed",
    "S1": "links, FIFOs and devices planted at evalmon's paths",
    "S2": "a monitor directory that others can write, or that belongs to another user",
    "S3": "forged self-reports",
    "S4": "newlines, ANSI, bidi, NUL in outside text",
    "S5": "shell metacharacters in names, paths, settings",
    "S6": "invalid job ids",
    "S7": "path traversal",
    "S8": "hostile .eval files",
    "S9": "hostile YAML; no pickle",
    "S10": "a Slurm log of 10 GB without a newline",
    "S11": "secrets in evalmon's files",
    "S12": "the user's environment shaping Slurm's answers",
    "S13": "PYTHONPATH, PYTHONHOME, shadowing modules, noexec",
    "S14": "cost: calls per poll, jitter, back-off",
    "S15": "what Slurm hides from an ordinary user",
    "S17": "EXP/evalmon renamed, replaced or linked at any time",
    "S18": "evidence of another user: logs, results, tables, outputs",
    "S19": "PATH with empty or relative entries, planted programs",
    "S20": "jobs that inherit another job's variables",
}


class Survival:
    """Counts the outcomes of the tests of each fault."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, ...]] = {}
        self._outcomes: dict[str, Counter[str]] = defaultdict(Counter)

    def pytest_collection_modifyitems(self, items: Iterable[pytest.Item]) -> None:
        for item in items:
            ids = faults_of(item)
            if unknown := set(ids) - FAULTS.keys():
                raise pytest.UsageError(f"{item.nodeid}: no such fault: {', '.join(sorted(unknown))}")
            if ids:
                self._of[item.nodeid] = ids

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            for fault in self._of.get(report.nodeid, ()):
                self._outcomes[fault][report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if len(self._outcomes) < 2:
            return
        terminalreporter.section("faults (F) and abuse (S)")
        for fault, title in FAULTS.items():
            found = self._outcomes[fault]
            counts = ", ".join(f"{found[word]} {word}" for word in ("failed", "passed", "skipped") if found[word])
            terminalreporter.line(f"{fault:>4}  {title}: {counts or 'no test in this run'}")


def faults_of(item: pytest.Item) -> tuple[str, ...]:
    """The faults that this test causes, in the order of the table."""
    found = {fault for mark in item.iter_markers("survives") for fault in mark.args}
    return tuple(sorted(found))
