"""Begins the experiments of several tests at once, so that their jobs run while other tests are looked at.

A test that waits long says how it begins, `@begins(start)`: `start(exp)` submits, and the test itself waits and looks.
With the first test of a module, `start` is called for all such tests of the module; or, with the first of a group,
for all of that, `@begins(start, group="minute")`: those with jobs that run into a limit of a minute, Slurm's shortest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from real_slurm.cluster import Cluster, Exp

_AT_ONCE = 2
_LONGEST_BEGINNING_S = 300


def begins(start: Callable[[Exp], None], *, group: str | None = None) -> pytest.MarkDecorator:
    """The mark of a test whose experiment is begun by `start`, together with those of its group."""
    return pytest.mark.begins.with_args(start, group=group)


class Ahead:
    """`folders`: where the experiments lie that were begun, by the test's id."""

    def __init__(self, cluster: Cluster, factory: pytest.TempPathFactory) -> None:
        self.folders: dict[str, Path] = {}
        self._cluster = cluster
        self._factory = factory
        self._beginnings: dict[str, Future[None]] = {}
        self._pool = ThreadPoolExecutor(_AT_ONCE)

    def begin_group_of(self, test: pytest.Item, tests: Sequence[pytest.Item]) -> None:
        """Begin those of these tests that belong to its group, and it first, unless that was done."""
        for one in [test, *tests]:
            mark = one.get_closest_marker("begins")
            if mark and _group(one) == _group(test) and one.nodeid not in self.folders and not _is_skipped(one):
                self._begin(one, mark.args[0])

    def _begin(self, test: pytest.Item, start: Callable[[Exp], None]) -> None:
        folder = self._factory.mktemp("ahead")
        self.folders[test.nodeid] = folder
        exp = Exp(folder / "study", self._cluster)

        def begin() -> None:
            exp.prepare()
            start(exp)

        self._beginnings[test.nodeid] = self._pool.submit(begin)

    def wait_begun(self, test: pytest.Item) -> None:
        """Wait for the end of its beginning; what that raised is raised here."""
        self._beginnings.pop(test.nodeid).result(_LONGEST_BEGINNING_S)

    def close(self) -> None:
        """Cancel the jobs of tests that did not come, as after Ctrl-C."""
        self._pool.shutdown(cancel_futures=True)
        for test in self._beginnings:
            Exp(self.folders[test] / "study", self._cluster).cancel_all()


def _group(test: pytest.Item) -> str:
    mark = test.get_closest_marker("begins")
    return (mark and mark.kwargs["group"]) or test.nodeid.partition("::")[0]


def _is_skipped(test: pytest.Item) -> bool:
    return test.get_closest_marker("skip") is not None or any(mark.args[0] for mark in test.iter_markers("skipif"))
