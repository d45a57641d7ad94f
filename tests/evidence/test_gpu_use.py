"""Tests when the GPUs were in use: idle time, first use, expected samples."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from gpu_texts import BEGIN_UNIX_S, OUR_HEADER, SMI_HEADER, our_tick, sampler_file, sampler_row, smi_row
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence.gpu_csv import GpuRow, parse
from evalmon_agent.evidence.gpu_measure import first_use_s, longest_idle_s, samples_expected, unused_count


def rows(text: str) -> tuple[GpuRow, ...]:
    return parse(text).rows


def instants(*utilizations: int, interval_s: float = 30) -> tuple[GpuRow, ...]:
    return rows(OUR_HEADER + "".join(our_tick(interval_s * at, pct) for at, pct in enumerate(utilizations)))


def windows(values: Iterable[float | str]) -> tuple[GpuRow, ...]:
    """Instants of 50 %, and these means since the row before."""
    return rows(
        sampler_file(
            *(sampler_row(30 * at, utilization_pct=50, utilization_mean_pct=value) for at, value in enumerate(values))
        )
    )


@pytest.mark.parametrize(
    ("utilizations", "expected"),
    [
        ((0, 0, 0), 60.0),
        ((5, 0, 0, 0, 5, 0, 0), 60.0),
        ((5, 0, 5), 0.0),
        ((5, 5), 0.0),
        ((0,), None),
        ((), None),
    ],
)
def test_an_instant_counts_only_for_itself(utilizations: tuple[int, ...], expected: float | None) -> None:
    assert expected == longest_idle_s(instants(*utilizations))


def test_a_window_counts_for_the_time_since_the_previous_tick() -> None:
    assert longest_idle_s(windows(["[N/A]", 0.0, 8.0, 0.0, 0.0])) == 60.0
    assert longest_idle_s(windows(["[N/A]", 0.0])) == 30.0


def test_two_gpus_are_idle_when_both_are_idle() -> None:
    text = OUR_HEADER + our_tick(0, 0, 0) + our_tick(30, 0, 7) + our_tick(60, 0, 0) + our_tick(90, 0, 0)
    assert longest_idle_s(rows(text)) == 30.0


def test_idle_time_over_a_gap_or_beside_an_unknown_tick_is_unknown() -> None:
    ticks = [our_tick(30 * at, 0) for at in range(5)] + [our_tick(3000 + 30 * at, 0) for at in range(3)]
    assert longest_idle_s(rows(OUR_HEADER + "".join(ticks))) == 120.0
    ticks[2] = ticks[2].replace("0 %", "[N/A]", 1)
    assert longest_idle_s(rows(OUR_HEADER + "".join(ticks))) == 60.0
    assert longest_idle_s(rows(SMI_HEADER + smi_row(0).replace("37 %", "[N/A]") * 2)) is None


def test_the_first_use_is_counted_from_the_start_of_the_attempt() -> None:
    found = instants(0, 0, 9, 0)
    assert first_use_s(found, started_at=BEGIN_UNIX_S - 12) == pytest.approx(72, abs=0.01)
    assert first_use_s(found, started_at=None) == pytest.approx(60, abs=0.01)
    assert first_use_s(found, started_at=BEGIN_UNIX_S + 500) == 0.0


def test_the_first_use_in_nvidia_smis_file_is_counted_from_the_first_row() -> None:
    text = SMI_HEADER + smi_row(0, utilization=0) + smi_row(30, utilization=1)
    assert first_use_s(rows(text), started_at=5.0) == 30.0


def test_gpus_that_were_never_used_have_no_first_use() -> None:
    assert first_use_s(instants(0, 0, 0), started_at=BEGIN_UNIX_S) is None
    assert first_use_s((), started_at=BEGIN_UNIX_S) is None


def test_gpus_that_were_never_seen_in_use_are_counted() -> None:
    text = OUR_HEADER + our_tick(0, 0, 0, 0) + our_tick(30, 5, 0, 0)
    assert unused_count(rows(text)) == 2
    assert unused_count(rows(SMI_HEADER + smi_row(0, utilization=0))) is None
    silent = [sampler_row(30 * at, gpu, utilization_pct="[N/A]") for at in (0, 1) for gpu in (0, 1)]
    assert unused_count(rows(sampler_file(*silent))) == 0


@pytest.mark.parametrize(
    ("length_s", "interval_s", "expected"),
    [(0.5, 30.0, 1), (1.5, 30.0, 2), (30.0, 30.0, 2), (30.5, 30.0, 2), (45.0, 30.0, 3), (300.0, 30.0, 11)],
)
def test_expected_samples_are_one_at_the_start_one_per_interval_and_one_at_the_end(
    length_s: float, interval_s: float, expected: int
) -> None:
    assert expected == samples_expected(1000.0, 1000.0 + length_s, interval_s=interval_s)


@pytest.mark.parametrize(
    ("started_at", "ended_at", "interval_s"),
    [
        (None, None, None),
        (1.0, 2.0, None),
        (1.0, None, 30.0),
        (None, 2.0, 30.0),
        (2.0, 1.0, 30.0),
        (1.0, 2.0, 0.0),
        (1.0, 2.0, -5.0),
        (-1e308, 1e308, 1.0),
    ],
)
def test_unknown_or_impossible_times_give_no_expected_samples(
    started_at: float | None, ended_at: float | None, interval_s: float | None
) -> None:
    assert samples_expected(started_at, ended_at, interval_s=interval_s) is None


@given(st.lists(st.tuples(st.floats(0, 1e5), st.integers(0, 2), st.sampled_from([0, 0, 3, 100])), max_size=30))
def test_idle_time_never_exceeds_the_files_time(ticks: list[tuple[float, int, int]]) -> None:
    ticks.sort()
    found = rows(sampler_file(*(sampler_row(at, gpu, utilization_pct=pct) for at, gpu, pct in ticks)))
    longest = longest_idle_s(found) or 0.0
    assert 0 <= longest <= (ticks[-1][0] - ticks[0][0] + 0.01 if ticks else 0)
