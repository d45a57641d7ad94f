"""Tests power and energy (by the counter, else by power and time, else unknown), power cap and throttling."""

from __future__ import annotations

import pytest
from gpu_texts import OUR_HEADER, SMI_HEADER, our_tick, sampler_file, sampler_row, smi_row

from evalmon_agent.evidence.gpu_csv import GpuRow, parse
from evalmon_agent.evidence.gpu_measure import power_and_energy


def rows(*texts: str) -> tuple[GpuRow, ...]:
    return parse(sampler_file(*texts)).rows


def only(**values: float | str) -> GpuRow:
    [row] = rows(sampler_row(0, **values))
    return row


def test_the_counters_of_all_gpus_are_added_over_all_ticks_but_the_first() -> None:
    first = [sampler_row(0, gpu, power_w=1.0) for gpu in (0, 1)]
    later = [sampler_row(10 * at, gpu, power_w=1.0, energy_j=500.0) for at in (1, 2, 3) for gpu in (0, 1)]
    assert power_and_energy(rows(*first, *later)) == (pytest.approx(100.0), 3000.0)


def test_the_first_window_of_a_tail_does_not_count() -> None:
    found = rows(*(sampler_row(10 * at, power_w=1.0, energy_j=500.0) for at in range(4)))
    assert power_and_energy(found) == (pytest.approx(50.0), 1500.0)


def test_a_counter_with_a_gap_is_replaced_by_power_and_time() -> None:
    energy: list[float | str] = ["[N/A]", 500.0, "[N/A]", 500.0]
    found = rows(*(sampler_row(10 * at, power_w=7.0, energy_j=value) for at, value in enumerate(energy)))
    assert power_and_energy(found) == (7.0, pytest.approx(210.0))


def test_without_a_counter_energy_is_power_times_time() -> None:
    text = OUR_HEADER + our_tick(0, 1, 1, power_w=100) + our_tick(30, 1, 1, power_w=200)
    assert power_and_energy(parse(text).rows) == (pytest.approx(300), pytest.approx(9000))


def test_energy_and_power_are_unknown_for_a_slice_and_without_rows() -> None:
    slices = rows(*(sampler_row(10 * at, uuid="MIG-{}", power_w=5.0, energy_j=9.0) for at in range(3)))
    assert power_and_energy(slices) == (None, None)
    assert power_and_energy(()) == (None, None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, None),
        ({"power_w": 665.0, "power_limit_w": 700.0}, True),
        ({"power_w": 664.0, "power_limit_w": 700.0}, False),
        ({"power_w": 100.0, "power_mean_w": 690.0, "power_limit_w": 700.0}, True),
        ({"power_w": 700.0}, None),
        ({"clock_reasons": 0x4}, True),
        ({"clock_reasons": 0x1}, False),
        ({"power_w": 100.0, "power_limit_w": 700.0, "clock_reasons": 0x4}, True),
        ({"power_w": 0.0, "power_limit_w": 0.0}, None),
        ({"uuid": "MIG-{}", "power_w": 700.0, "power_limit_w": 700.0, "clock_reasons": 0x4}, None),
    ],
)
def test_time_near_the_power_cap_is_counted(values: dict[str, float | str], expected: bool | None) -> None:
    assert only(**values).is_near_power_cap is expected


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [("[N/A]", None), (0, False), (0x1, False), (0x4, False), (0x8, True), (0x20, True), (0x40, True), (0x80, True)],
)
def test_throttling_counts_reasons_that_slow_a_gpu_below_its_setting(reasons: int | str, expected: bool | None) -> None:
    assert only(clock_reasons=reasons).is_throttled is expected


def test_utilization_is_gpms_else_the_mean_of_samples_else_the_instant() -> None:
    assert only(utilization_pct=9, utilization_mean_pct=4.5, graphics_activity_pct=1.0).busy_pct == 1.0
    assert only(utilization_pct=9, utilization_mean_pct=4.5).busy_pct == 4.5
    assert only(utilization_pct=9).busy_pct == 9
    assert only(utilization_pct="[N/A]", graphics_activity_pct=1.0).busy_pct == 1.0
    assert only(utilization_pct="[N/A]").busy_pct is None
    [smi] = parse(SMI_HEADER + smi_row(0)).rows
    assert (smi.busy_pct, smi.is_near_power_cap, smi.is_throttled) == (37, None, None)


def test_an_extra_cell_that_is_not_a_number_is_unknown() -> None:
    line = sampler_row(0, utilization_mean_pct=12.5, utilization_pct=9)
    for cell in ("12.", "12.5", "[GPU is lost]", "112.5 %", "", "1٢.5 %"):
        [row] = rows(line.replace("12.5 %", cell))
        assert row.busy_pct == 9
