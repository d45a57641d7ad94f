"""Tests the GPU figures of a job: each as its docstring defines it, None if unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gpu_texts import BEGIN_UNIX_S, OUR_HEADER, SMI_HEADER, our_row, our_tick, sampler_file, sampler_row, smi_row
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence.gpu_csv import parse
from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.evidence.gpu_measure import between, figures

MIB = 1024 * 1024


def of(*texts: str) -> GpuFigures:
    found = figures(parse(text).rows for text in texts)
    assert found is not None
    return found


def test_the_figures_of_two_gpus_over_three_ticks() -> None:
    text = OUR_HEADER + our_tick(0, 0, 40, power_w=100) + our_tick(30, 0, 100, used_mib=5000, power_w=200)
    found = of(text + our_tick(60, 20, 80, power_w=100))
    assert found == GpuFigures(
        count=2,
        samples=3,
        utilization_mean_pct=40,
        utilization_p95_pct=100,
        utilization_max_pct=100,
        idle_fraction=pytest.approx(2 / 6),
        memory_peak_bytes=10000 * MIB,
        memory_total_bytes=2 * 81920 * MIB,
        power_mean_w=pytest.approx(800 / 3),
        energy_j=pytest.approx(2 * 30 * 300),
        below_5_pct_fraction=pytest.approx(2 / 6),
        longest_idle_s=0.0,
        first_use_s=0.0,
        unused_count=0,
    )


def test_the_peak_of_memory_includes_peaks_between_ticks_if_the_file_has_them() -> None:
    first = sampler_row(0, 0, memory_max_mib=3984) + sampler_row(0, 1, memory_max_mib=3984)
    second = sampler_row(30, 0, memory_max_mib=54883) + sampler_row(30, 1, memory_max_mib="[N/A]")
    assert of(sampler_file(first, second)).memory_peak_bytes == (54883 + 3984) * MIB
    assert of(sampler_file(sampler_row(0, memory_used_mib="[N/A]"))).memory_peak_bytes is None


def test_the_95th_percentile_is_by_nearest_rank() -> None:
    found = of(SMI_HEADER + "".join(smi_row(30 * at, utilization=at + 1) for at in range(100)))
    assert (found.utilization_p95_pct, found.utilization_max_pct, found.idle_fraction) == (95, 100, 0)


def test_a_file_of_nvidia_smi_gives_the_same_figures_as_evalmons() -> None:
    ours = OUR_HEADER + "".join(our_tick(30 * at, at, 2 * at) for at in range(10))
    smi = "".join(smi_row(30 * at, utilization=at) + smi_row(30 * at + 0.002, utilization=2 * at) for at in range(10))
    whose = replace(of(ours), unused_count=None)  # nvidia-smi's rows do not have it
    assert of(SMI_HEADER + smi) == whose


def test_one_sample_has_no_energy() -> None:
    found = of(OUR_HEADER + our_tick(0, 1))
    assert (found.samples, found.power_mean_w, found.energy_j) == (1, 180.4, None)


def test_energy_over_a_long_gap_is_unknown() -> None:
    begin = OUR_HEADER + "".join(our_tick(30 * at, 1) for at in range(10))
    assert of(begin + our_tick(5000, 1)).energy_j is None
    assert of(begin + our_tick(330, 1)).energy_j is not None


def test_a_clock_that_was_set_back_makes_the_energy_unknown() -> None:
    assert of(SMI_HEADER + "".join(smi_row(at) for at in (3600, 3630, 3660, 60, 90, 120))).energy_j is None


def test_values_that_a_gpu_lacks_stay_unknown() -> None:
    silent = smi_row(0)
    for cell in ("37 %", "3984 MiB", "81920 MiB", "180.40 W"):
        silent = silent.replace(cell, "[N/A]")
    found = of(SMI_HEADER + silent)
    assert (found.count, found.samples) == (1, 1)
    assert (found.utilization_mean_pct, found.utilization_p95_pct, found.utilization_max_pct) == (
        None,
        None,
        None,
    )
    assert (found.idle_fraction, found.memory_peak_bytes, found.memory_total_bytes) == (None, None, None)
    assert (found.power_mean_w, found.energy_j) == (None, None)
    assert (found.below_5_pct_fraction, found.longest_idle_s, found.first_use_s) == (None, None, None)
    assert (found.near_power_cap_fraction, found.throttled_fraction, found.samples_expected) == (None, None, None)


def test_the_power_of_a_sliced_gpu_is_not_attributed_to_the_job() -> None:
    slices = (our_tick(0, 1, 1) + our_tick(30, 1, 1)).replace("GPU-", "MIG-")
    found = of(OUR_HEADER + slices)
    assert (found.count, found.power_mean_w, found.energy_j) == (2, None, None)


def test_several_nodes_are_added_up() -> None:
    node = OUR_HEADER + our_tick(0, 50, 50) + our_tick(30, 50, 50)
    one, two = of(node), of(node, node)
    assert (two.count, two.samples, two.utilization_mean_pct) == (4, 2, 50)
    assert (two.memory_peak_bytes, two.energy_j) == (
        2 * (one.memory_peak_bytes or 0),
        2 * (one.energy_j or 0),
    )


def test_the_samplers_window_values_take_precedence_over_instants() -> None:
    rows = [sampler_row(0, utilization_pct=0)]
    rows += [
        sampler_row(30 * at, utilization_pct=0, utilization_mean_pct=3.0 * at, sm_activity_pct=10.0, energy_j=3000.0)
        for at in (1, 2)
    ]
    found = of(sampler_file(*rows))
    assert (found.utilization_mean_pct, found.utilization_max_pct) == (pytest.approx(3.0), 6.0)
    assert (found.idle_fraction, found.below_5_pct_fraction) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert (found.sm_activity_mean_pct, found.tensor_activity_mean_pct) == (10.0, None)
    assert (found.power_mean_w, found.energy_j) == (100.0, 6000.0)


def test_actual_and_expected_samples_are_both_given() -> None:
    text = OUR_HEADER + our_tick(0, 5, 5) + our_tick(30, 5, 5)
    found = figures([parse(text).rows], started_at=BEGIN_UNIX_S, ended_at=BEGIN_UNIX_S + 300.5, interval_s=30.0)
    assert found is not None
    assert (found.samples, found.samples_expected) == (2, 11)


def test_without_rows_there_are_no_figures() -> None:
    assert figures([]) is None
    assert figures([()]) is None


def test_an_attempt_gets_the_rows_of_its_own_time() -> None:
    table = parse(OUR_HEADER + our_tick(0, 10) + OUR_HEADER + our_tick(600, 90))
    own = between(table.rows, start_unix_s=BEGIN_UNIX_S + 500, end_unix_s=BEGIN_UNIX_S + 700)
    assert [row.utilization_pct for row in own] == [90]


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_no_figure_of_a_part_of_a_file_exceeds_that_of_the_whole(start: int, length: int) -> None:
    whole = OUR_HEADER + "".join(our_row(30 * at, 0, utilization=40 + at, used_mib=100 * at) for at in range(20))
    found = figures([parse(whole[start : start + length]).rows])
    if found is None:
        return
    everything = of(whole)
    assert 40 <= (found.utilization_mean_pct or 40) <= 59
    assert (found.utilization_max_pct or 0) <= (everything.utilization_max_pct or 0)
    assert (found.memory_peak_bytes or 0) <= (everything.memory_peak_bytes or 0)
    assert (found.energy_j or 0) <= (everything.energy_j or 0) + 1e-6
    assert found.count in (None, 1)
    assert (found.longest_idle_s or 0, found.unused_count or 0) == (0, 0)
    assert 0 <= (found.first_use_s or 0) <= 30 * 19


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 3), st.integers(0, 100), st.floats(0, 1000)), max_size=30))
def test_rows_in_any_order_are_accepted(rows: list[tuple[float, int, int, float]]) -> None:
    text = "".join(our_row(at, gpu, utilization=pct, power_w=power) for at, gpu, pct, power in rows)
    found = figures([parse(OUR_HEADER + text).rows])
    if found is not None:
        assert (found.count or 1) <= 4
        assert 0 <= (found.idle_fraction or 0) <= 1
        assert found.energy_j is None or found.energy_j >= 0
        assert (found.longest_idle_s or 0) >= 0
        assert (found.first_use_s or 0) >= 0
