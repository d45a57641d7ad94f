"""Tests that the last complete tick is found, never a part of one."""

from __future__ import annotations

import pytest
from gpu_texts import BEGIN_UNIX_S, OUR_HEADER, SMI_HEADER, our_row, our_tick, smi_row

from evalmon_agent.evidence.gpu_csv import parse
from evalmon_agent.evidence.gpu_measure import Tick, last_tick


def last_of(text: str) -> Tick | None:
    return last_tick(parse(text).rows)


def test_the_last_tick_has_the_mean_utilization_and_the_sum_of_the_memory() -> None:
    tick = last_of(OUR_HEADER + our_tick(0, 10, 10) + our_tick(30, 20, 81, used_mib=1000))
    assert tick is not None
    assert tick.utilization_pct == 50.5
    assert (tick.memory_used_mib, tick.memory_total_mib) == (2000, 2 * 81920)
    assert tick.at == pytest.approx(BEGIN_UNIX_S + 30)


def test_a_single_tick_is_complete() -> None:
    tick = last_of(OUR_HEADER + our_tick(0, 10, 20))
    assert tick is not None
    assert tick.utilization_pct == 15


@pytest.mark.parametrize("whole", [our_tick(30, 50, 90), smi_row(30, utilization=50) + smi_row(30.004)])
@pytest.mark.survives("F12")
def test_a_tick_cut_anywhere_gives_the_previous_one(whole: str) -> None:
    ours = whole.count("GPU") > 0
    text = OUR_HEADER if ours else SMI_HEADER
    for at in (-60, -30, 0):
        text += our_tick(at, 10, 20) if ours else smi_row(at, utilization=10)
        text += "" if ours else smi_row(at + 0.003, utilization=20)
    for cut in range(len(whole)):
        tick = last_of(text + whole[:cut])
        assert tick is not None
        assert (tick.memory_total_mib, tick.utilization_pct) == (2 * 81920, 15)


def test_a_tail_that_begins_within_a_tick_does_not_count_its_rest() -> None:
    text = OUR_HEADER + our_tick(0, 10, 20, 30)
    for cut in range(len(OUR_HEADER) + 1, len(text)):
        tick = last_of(text[cut:])
        assert tick is None


def test_after_a_gpu_was_lost_the_next_tick_shows_the_others() -> None:
    lost = our_row(30, 1).replace("37 %", "[GPU is lost]").replace("3984 MiB", "[GPU is lost]")
    first = OUR_HEADER + our_tick(0, 10, 20) + our_row(30, 0, utilization=60) + lost
    tick = last_of(first)
    assert tick is not None
    assert (tick.utilization_pct, tick.memory_used_mib) == (60, 3984)
    assert last_of(first + our_tick(60, 70)) == tick
    after = last_of(first + our_tick(60, 70) + our_tick(90, 80))
    assert after is not None
    assert (after.memory_total_mib, after.utilization_pct) == (81920, 80)


def test_after_a_requeue_onto_other_gpus_their_first_tick_counts() -> None:
    other = our_tick(600, 90).replace("GPU-0a5b", "GPU-ffff")
    tick = last_of(OUR_HEADER + our_tick(0, 10, 20) + OUR_HEADER + other)
    assert tick is not None
    assert tick.utilization_pct == 90


def test_a_tick_without_values_has_no_numbers() -> None:
    tick = last_of(SMI_HEADER + smi_row(0).replace("37 %", "[N/A]").replace("3984 MiB", "[N/A]"))
    assert tick is not None
    assert (tick.utilization_pct, tick.memory_used_mib, tick.memory_total_mib) == (None, None, None)


def test_rows_of_nvidia_smi_within_milliseconds_are_one_tick() -> None:
    rounds = "".join(smi_row(at) + smi_row(at + 0.002) + smi_row(at + 0.01) for at in (0, 30, 60))
    tick = last_of(SMI_HEADER + rounds)
    assert tick is not None
    first_of_the_last = parse(SMI_HEADER + rounds).rows[6]
    assert (tick.memory_total_mib, first_of_the_last.timestamp_unix_s) == (3 * 81920, None)
    assert tick.at == first_of_the_last.local_time.timestamp()


def test_one_gpu_sampled_ten_times_a_second_is_not_ten_gpus() -> None:
    rows = "".join(smi_row(at / 10) for at in range(50))
    assert last_of(SMI_HEADER + rows) is None
    with_a_hiccup = rows + "".join(smi_row(5.6 + at / 10) for at in range(50))
    assert last_of(SMI_HEADER + with_a_hiccup) is None


def test_an_empty_file_has_no_tick() -> None:
    assert last_tick([]) is None
