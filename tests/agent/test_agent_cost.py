"""Tests how much of the eval's memory `evalmon run` uses."""

from pathlib import Path

from in_a_job import RUN, Experiment, settle, started


def own_bytes(pid: int) -> int:
    """The memory that this process shares with no other, so what would be free without it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_Dirty:"))


def test_run_and_its_helper_take_less_than_12_mib(experiment: Experiment) -> None:
    """Measured 7.3 MiB with Python 3.11, 3.0 of them a bare interpreter's."""
    with started([*RUN, "--", "sleep", "30"], experiment.environ(), stdout=None, stderr=None) as run:
        _, helper = settle(experiment, run.pid)
        assert own_bytes(run.pid) + own_bytes(helper) < 12 << 20
        assert own_bytes(helper) < 1 << 20
