"""Tests that either kind of lock admits one writer at a time, and that only a dead holder's lock is taken over."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock
import pytest

import faults
from evalmon_agent.errors import LockUnavailableError
from evalmon_agent.files import lock
from evalmon_agent.files.lock import Holder, held, parse_holder, this_host, this_process
from evalmon_agent.files.proc import LockKind

KINDS: list[LockKind] = ["flock", "soft"]
both = pytest.mark.parametrize("kind", KINDS)
ROUNDS = 20


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state.json.lock")


def count_up(path: str, kind: LockKind) -> None:
    """Read, wait a little and write: a second holder at the same time would lose an update."""
    counter = Path(path).with_name("counter")
    for _ in range(ROUNDS):
        with held(path, kind):
            number = int(counter.read_text())
            time.sleep(0.0005)
            counter.write_text(str(number + 1))


@contextmanager
def holder(path: str, kind: LockKind) -> Iterator[int]:
    """A process that holds the lock until it is killed."""

    def hold() -> None:
        with held(path, kind):
            Path(path).with_name("holds").touch()
            time.sleep(600)

    pid = faults.forked(hold)
    os.kill(pid, signal.SIGCONT)
    faults.wait_until(Path(path).with_name("holds").exists)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def is_free(path: str, kind: LockKind, *, wait_s: float = 0.3) -> bool:
    try:
        with held(path, kind, wait_s=wait_s):
            return True
    except LockUnavailableError:
        return False


@both
def test_no_update_is_lost_between_many_processes(path: str, kind: LockKind) -> None:
    counter = Path(path).with_name("counter")
    counter.write_text("0")
    assert faults.crowd(6, lambda _: count_up(path, kind)) == [0] * 6
    assert counter.read_text() == str(6 * ROUNDS)


@pytest.mark.full
@both
def test_no_update_is_lost_between_very_many_processes(path: str, kind: LockKind) -> None:
    counter = Path(path).with_name("counter")
    counter.write_text("0")
    assert faults.crowd(40, lambda _: count_up(path, kind)) == [0] * 40
    assert counter.read_text() == str(40 * ROUNDS)


@both
def test_the_lock_is_free_after_release_and_after_an_exception(path: str, kind: LockKind) -> None:
    with held(path, kind):
        pass
    with pytest.raises(ZeroDivisionError), held(path, kind):
        raise ZeroDivisionError
    assert is_free(path, kind)


@both
def test_a_waiter_that_times_out_gets_a_one_line_error(path: str, kind: LockKind) -> None:
    with holder(path, kind) as pid, pytest.raises(LockUnavailableError) as caught, held(path, kind, wait_s=0.1):
        pass
    assert caught.value.exit_status == 75
    whom = f"process {pid} on {this_host()}" if kind == "soft" else "another evalmon"
    assert str(caught.value) == f"{path} is held by {whom} for more than 0 s; try again"


def test_the_error_names_a_holder_on_another_host_and_what_to_do(path: str) -> None:
    mark(path, Holder(5, "another-node", 1))
    whom = "by process 5 on another-node for more than 0 s; try again, or remove it if that process is gone for good"
    with pytest.raises(LockUnavailableError, match=whom), held(path, "soft", wait_s=0):
        pass
    Path(path).write_bytes(b"")
    whom = "by an unknown process for more than 0 s; try again, or remove it if no evalmon is running here"
    with pytest.raises(LockUnavailableError, match=whom), held(path, "soft", wait_s=0):
        pass


@pytest.mark.survives("F23")
@both
def test_a_process_asked_to_stop_waits_only_briefly(path: str, kind: LockKind) -> None:
    began = time.monotonic()
    with holder(path, kind), pytest.raises(LockUnavailableError, match="for more than 3 s"):  # noqa: SIM117
        with held(path, kind, wait_s=60, hurry=lambda: True):
            pass
    assert time.monotonic() - began < 8


@pytest.mark.survives("F6")
@both
def test_a_living_holders_lock_is_never_broken_even_if_it_is_stopped(path: str, kind: LockKind) -> None:
    with holder(path, kind) as pid:
        os.kill(pid, signal.SIGSTOP)
        # However old it is.
        os.utime(path, (0, 0))
        assert not is_free(path, kind, wait_s=0.8)
        assert faults.crowd(4, lambda _: None if not is_free(path, kind) else 1 / 0) == [0] * 4


@pytest.mark.survives("F6")
@both
def test_a_killed_holders_lock_is_taken_over(path: str, kind: LockKind) -> None:
    with holder(path, kind):
        pass
    assert is_free(path, kind)


@pytest.mark.survives("F6")
def test_a_zombie_holds_no_lock(path: str) -> None:
    pid = faults.forked(
        lambda: os.kill(os.getpid(), signal.SIGKILL) if lock.acquire_marker(path, lambda: False) else None
    )
    os.kill(pid, signal.SIGCONT)
    faults.wait_until(lambda: lock.holder_of(path) is not None)
    faults.wait_until(lambda: ") Z " in Path(f"/proc/{pid}/stat").read_text())
    assert is_free(path, "soft")
    os.waitpid(pid, 0)


@pytest.mark.survives("F6")
def test_a_dead_holders_marker_is_taken_over_by_one_process_at_a_time(path: str) -> None:
    counter = Path(path).with_name("counter")
    counter.write_text("0")

    def die_holding(_: int) -> None:
        lock.acquire_marker(path, lambda: False)
        counter.write_text(str(int(counter.read_text()) + 1))
        os.kill(os.getpid(), signal.SIGKILL)

    assert faults.crowd(12, die_holding) == [-signal.SIGKILL] * 12
    assert counter.read_text() == "12"
    assert is_free(path, "soft")


def mark(path: str, whom: Holder) -> None:
    Path(path).write_bytes(whom.text)


@pytest.mark.survives("F6")
def test_a_process_with_a_reused_pid_is_not_the_holder(path: str) -> None:
    me = this_process()
    mark(path, Holder(me.pid, me.host, 1))
    assert is_free(path, "soft")


@pytest.mark.survives("F6")
def test_a_lock_held_on_another_host_is_never_broken(path: str) -> None:
    mark(path, Holder(2**22 + 1, "another-node", 1))
    os.utime(path, (0, 0))
    whom = f"process {2**22 + 1} on another-node"
    with pytest.raises(LockUnavailableError, match=whom), held(path, "soft", wait_s=0.2):
        pass


@pytest.mark.survives("F6")
def test_a_marker_is_removed_when_its_holder_is_known_to_be_gone(path: str) -> None:
    gone = Holder(5, "another-node", 1)
    mark(path, gone)
    assert not lock.remove_marker_of(path, Holder(6, "another-node", 1))
    assert lock.remove_marker_of(path, gone)
    assert not lock.remove_marker_of(path, gone)
    assert is_free(path, "soft")


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"12\n", b"1\nhost\n", b"x\nhost\n1\n", b"1\nhost\n1\n2\n", b"\xff" * 2000, b"1\nhost\n-1\n"]
)
def test_a_marker_that_names_no_process_is_never_removed(path: str, text: bytes) -> None:
    assert parse_holder(text) is None
    Path(path).write_bytes(text)
    assert not is_free(path, "soft", wait_s=0.1)
    assert Path(path).read_bytes() == text


def test_a_holder_is_read_back_from_its_marker() -> None:
    for whom in (Holder(1, "h", 2), this_process()):
        assert parse_holder(whom.text) == whom
    assert this_process().is_here
    assert not this_process().is_gone
    assert this_host().startswith(socket.gethostname())


def test_filelocks_flock_and_evalmons_exclude_each_other(path: str) -> None:
    """A flock by the filelock package itself."""
    theirs = filelock.FileLock(path, timeout=0)
    with held(path, "flock"), pytest.raises(filelock.Timeout), theirs:
        pass
    with theirs:
        assert not is_free(path, "flock", wait_s=0)
    assert is_free(path, "flock", wait_s=0)


def test_flock_locks_the_opened_directory_after_another_took_its_place(tmp_path: Path) -> None:
    """filelock's own FileLock would lock the other."""
    (tmp_path / "place").mkdir()
    pinned = os.open(tmp_path / "place", os.O_PATH)
    (tmp_path / "place").rename(tmp_path / "moved")
    (tmp_path / "place").mkdir()
    with held(f"/proc/self/fd/{pinned}/lock", "flock"):
        assert not is_free(str(tmp_path / "moved" / "lock"), "flock", wait_s=0)
    assert os.listdir(tmp_path / "place") == []
    os.close(pinned)


def test_a_waiter_follows_a_lock_file_that_was_removed_and_created_again(path: str) -> None:
    with holder(path, "flock") as first:
        waiting = faults.forked(lambda: None if not is_free(path, "flock", wait_s=2) else 1 / 0)
        os.kill(waiting, signal.SIGCONT)
        time.sleep(0.3)
        os.unlink(path)
        Path(path).with_name("holds").unlink()
        with holder(path, "flock"):
            os.kill(first, signal.SIGKILL)
            assert os.waitstatus_to_exitcode(os.waitpid(waiting, 0)[1]) == 0


@pytest.mark.survives("F5")
@faults.needs_strace
@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP", "ENOSYS"])
def test_without_hard_links_the_soft_lock_is_refused_at_once(path: str, error: str) -> None:
    def work() -> None:
        began = time.monotonic()
        says = f"^{path}: no lock works on this file system.*; use another file system for the experiment$"
        with pytest.raises(LockUnavailableError, match=says), held(path, "soft"):
            pass
        assert time.monotonic() - began < 5
        assert not lock.marker_works(os.path.dirname(path))

    assert faults.refused_always(work, "link,linkat", error) == 0
    assert os.listdir(os.path.dirname(path)) == []


@faults.needs_strace
def test_eperm_from_a_server_is_not_taken_for_missing_hard_links_if_the_name_exists(path: str) -> None:
    """sshfs: sftp says EPERM for every refusal."""
    mark(path, Holder(5, "another-node", 1))

    def work() -> None:
        assert not is_free(path, "soft", wait_s=0.1)
        os.unlink(path)

    assert faults.refused_always(work, "link", "EPERM") == 0

    def gone_meanwhile() -> None:
        assert is_free(path, "soft", wait_s=1)

    assert faults.refused_at(gone_meanwhile, ("link", 1), "EPERM") == 0


@pytest.mark.survives("F6")
@faults.needs_strace
@pytest.mark.parametrize("error", ["ENOENT", "ESTALE"])
def test_a_dead_holders_marker_that_only_the_clients_cache_shows_is_not_removed(path: str, error: str) -> None:
    """How the server answers when such a file is to get a second name."""
    gone = Holder(2**22 + 1, this_host(), 1)
    mark(path, gone)

    def work() -> None:
        assert not lock.remove_marker_of(path, gone)

    options = ("-P", path, "-e", "trace=linkat", "-e", f"inject=linkat:error={error}")
    assert faults.under(work, *options) == 0
    assert Path(path).read_bytes() == gone.text
    assert lock.remove_marker_of(path, gone)


@pytest.mark.survives("F6")
@faults.needs_strace
@both
def test_a_kill_at_any_call_leaves_a_lock_that_can_be_acquired(path: str, kind: LockKind, tmp_path: Path) -> None:
    def work() -> None:
        with held(path, kind):
            pass

    found = faults.points(work, tmp_path / "trace")
    assert len(found) > 3
    for point in found:
        Path(path).unlink(missing_ok=True)
        assert faults.killed_at(work, point)
        assert is_free(path, kind, wait_s=1), point


@pytest.mark.survives("F6")
@faults.needs_strace
def test_a_kill_during_a_takeover_lets_the_next_process_take_over(path: str, tmp_path: Path) -> None:
    def work() -> None:
        with held(path, "soft", wait_s=5):
            pass

    dead = Holder(2**22 + 1, this_host(), 1)
    mark(path, dead)
    found = faults.points(work, tmp_path / "trace")
    assert len(found) > 15
    for point in found:
        mark(path, dead)
        assert faults.killed_at(work, point)
        assert is_free(path, "soft", wait_s=1), point


@faults.needs_strace
def test_a_process_reuses_its_marker_that_it_could_not_remove(path: str) -> None:
    def work() -> None:
        with held(path, "soft"):
            pass
        assert os.path.exists(path)
        with held(path, "soft", wait_s=0.5):
            pass

    # The first unlink is that of the temporary name.
    assert faults.refused_at(work, ("unlink", 2), "EIO") == 0


@pytest.mark.survives("S1")
@both
@pytest.mark.parametrize("plant", faults.PLANTS)
def test_planted_files_are_refused_at_once_and_untouched(path: str, kind: LockKind, plant: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    faults.plant(plant, Path(path), victim)
    began = time.monotonic()
    # A second hard link may be a lock being made, or (flock) a usable lock, so evalmon waits for it.
    free = is_free(path, kind, wait_s=0.2 if plant == "hard link" else 30)
    assert time.monotonic() - began < 1
    assert not free or (plant, kind) == ("hard link", "flock")
    assert victim.read_text() == "precious"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.survives("F5")
@faults.needs_strace
@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_flock_is_reported(path: str, error: str) -> None:
    def work() -> None:
        with pytest.raises(LockUnavailableError, match="cannot be locked here"), held(path, "flock", wait_s=0.2):
            pass

    assert faults.refused_always(work, "flock", error) == 0


@pytest.mark.survives("F2")
@faults.needs_strace
def test_a_full_disk_is_not_reported_as_a_lock_problem(path: str) -> None:
    def work() -> None:
        with pytest.raises(OSError, match="No space left"), held(path, "soft", wait_s=0.2):
            pass

    assert faults.refused_at(work, ("write", 1), "ENOSPC") == 0
    assert os.listdir(os.path.dirname(path)) == []
