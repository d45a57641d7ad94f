"""Tests how the usage of descendant processes is measured without a cgroup, and how it is written."""

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from in_a_job import environ, started

from evalmon_agent.agent.sampling import host_usage
from evalmon_agent.agent.sampling.host_usage import TreeUsage, Usage
from evalmon_agent.words.csv_columns import HostColumn
from faults import wait_until

BUSY = "import time; hoard = b'x' * 2**26; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"


def test_the_process_tree_has_children_of_children_and_of_threads() -> None:
    code = (
        "import subprocess, threading\n"
        "threading.Thread(target=lambda: subprocess.run(['sleep', '100'])).start()\n"
        "subprocess.run(['sh', '-c', 'sleep 100; true'])\n"
    )
    with started([sys.executable, "-c", code], environ()) as process:
        wait_until(lambda: TreeUsage(process.pid).usage().processes == 4)


def test_the_cpu_time_of_ended_children_counts() -> None:
    before = TreeUsage(os.getpid()).usage()
    subprocess.run([sys.executable, "-c", BUSY], check=True, timeout=60)
    after = TreeUsage(os.getpid()).usage()
    assert before.cpu_s is not None
    assert after.cpu_s is not None
    assert after.cpu_s - before.cpu_s >= 0.4


def test_memory_and_processes_are_those_of_the_process_tree() -> None:
    with started([sys.executable, "-c", f"{BUSY}\ntime.sleep(100)"], environ()) as process:
        source = TreeUsage(process.pid)
        wait_until(lambda: (source.usage().memory_bytes or 0) > 2**26)
        usage = source.usage()
    assert (usage.processes, usage.memory_limit_bytes, usage.file_cache_bytes) == (1, None, None)
    assert usage.memory_peak_bytes is not None
    assert 2**26 < usage.memory_peak_bytes < 2**28


def test_an_ended_process_tree_raises_oserror() -> None:
    with started(["true"], environ()) as process:
        process.wait(timeout=10)
    with pytest.raises(FileNotFoundError):
        TreeUsage(process.pid).usage()


def usage(cpu_s: float | None) -> Usage:
    found = Usage()
    found.cpu_s = cpu_s
    return found


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, usage(5.0), None),
        ((0.0, usage(1.0)), usage(5.0), 2.0),
        ((0.0, usage(None)), usage(5.0), None),
        ((0.0, usage(9.0)), usage(5.0), None),
        ((2.0, usage(1.0)), usage(5.0), None),
    ],
)
def test_busy_cores_are_never_invented(
    before: tuple[float, Usage] | None, after: Usage, expected: float | None
) -> None:
    assert expected == host_usage.cores_used(after, before, at_s=2.0)


@given(st.lists(st.none() | st.integers(0, 2**50), min_size=5, max_size=5), st.none() | st.floats(0, 1e6))
def test_each_row_has_as_many_cells_as_the_header(numbers: list[int | None], cores: float | None) -> None:
    found = Usage()
    found.memory_bytes, found.memory_peak_bytes, found.read_bytes, found.written_bytes, found.processes = numbers
    found.cpu_limit_cores = cores
    line = host_usage.row(found, None, at_unix_s=time.time(), at_s=0.0).decode()
    assert len(line.split(", ")) == len(HostColumn)
    assert line.count("[N/A]") == 1 + 2 + numbers.count(None) + (cores is None)
