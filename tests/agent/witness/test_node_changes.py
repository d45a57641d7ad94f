"""Tests that new processes on this node are noticed at once and at the next check, whatever else starts or ends."""

from __future__ import annotations

import subprocess
import threading
import time

from evalmon_agent.agent.witness.job_processes import NodeChanges


def test_at_the_first_check_any_process_may_be_new() -> None:
    node = NodeChanges()
    node.look()
    assert node.may_have_begun
    assert not node.is_quiet


def test_a_new_process_is_noticed_at_once_and_at_the_next_check() -> None:
    node = NodeChanges()
    for _ in range(10):
        node.look()
    with subprocess.Popen(["sleep", "60"]) as process:
        for _ in range(2):
            node.look()
            assert node.may_have_begun
            assert not node.is_quiet
        process.kill()


def test_an_ended_thread_counts_as_a_change() -> None:
    node = NodeChanges()
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    for _ in range(10):
        node.look()
    over.set()
    thread.join()
    until_s = time.monotonic() + 10
    while node.is_quiet and time.monotonic() < until_s:  # the system ends it a little later than Python
        node.look()
    assert not node.is_quiet
