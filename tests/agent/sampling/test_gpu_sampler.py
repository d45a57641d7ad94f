"""Tests the rows of gpu_metrics.csv: nvidia-smi's seven columns byte for byte, then evalmon's."""

import time
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.agent.sampling.gpu_sampler import Reading, row
from evalmon_agent.agent.sampling.host_usage import local_time
from evalmon_agent.agent.sampling.nvml import Device
from evalmon_agent.evidence.gpu_csv import OUR_COLUMNS, parse
from evalmon_agent.words.csv_columns import GpuColumn

DEVICE = Device("0", "GPU-0000")


def reading() -> Reading:
    return {
        GpuColumn.UTILIZATION_PCT: 37,
        GpuColumn.MEMORY_UTILIZATION_PCT: 12,
        GpuColumn.MEMORY_USED_MIB: 3984,
        GpuColumn.MEMORY_TOTAL_MIB: 81920,
        GpuColumn.POWER_W: 180.4,
        GpuColumn.TEMPERATURE_C: 44,
    }


def test_the_header_begins_like_nvidia_smis_and_matches_the_readers() -> None:
    smi = (
        "timestamp, utilization.gpu [%], utilization.memory [%], memory.used [MiB], memory.total [MiB], "
        "power.draw [W], temperature.gpu"
    )
    assert GpuColumn.first_line().decode().startswith(smi + ", index, uuid, timestamp_unix [s], ")
    assert tuple(GpuColumn.first_line().decode().rstrip("\n").split(", "))[: len(OUR_COLUMNS)] == OUR_COLUMNS


def test_a_row_begins_like_nvidia_smis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    at = datetime.fromisoformat("2026-02-20T14:28:12.659+00:00").timestamp()
    line = row(DEVICE, reading(), at_unix_s=at).decode()
    monkeypatch.undo()
    time.tzset()
    smi = "2026/02/20 14:28:12.659, 37 %, 12 %, 3984 MiB, 81920 MiB, 180.40 W, 44"
    assert line.startswith(f"{smi}, 0, GPU-0000, {at:.3f}, ")
    assert line.endswith("\n")


def test_a_cell_without_a_value_has_no_unit() -> None:
    line = row(DEVICE, dict.fromkeys(GpuColumn, "[GPU is lost]"), at_unix_s=0.0).decode()
    assert line.count("[GPU is lost]") == len(GpuColumn) - 4  # time, index, uuid, time
    assert "[GPU is lost]," in line


@given(st.floats(0, 4e9))
def test_local_time_and_time_stamp_are_of_the_same_millisecond(at_unix_s: float) -> None:
    local = local_time(at_unix_s)
    stamp = f"{at_unix_s:.3f}"
    assert local[-3:] == stamp[-3:]
    assert local[:-4] == time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(int(stamp[:-4])))


@given(
    st.integers(0, 100),
    st.integers(0, 10**6),
    st.floats(0, 10**5),
    st.integers(-40, 200),
    st.floats(1e9, 4e9),
)
def test_a_written_row_is_read_back(
    utilization: int, memory_mib: int, power_w: float, degrees: int, at_unix_s: float
) -> None:
    found = reading()
    found |= {GpuColumn.UTILIZATION_PCT: utilization, GpuColumn.MEMORY_USED_MIB: memory_mib}
    found |= {GpuColumn.POWER_W: power_w, GpuColumn.TEMPERATURE_C: degrees}
    table = parse(GpuColumn.first_line() + row(DEVICE, found, at_unix_s=at_unix_s))
    (found_row,) = table.rows
    assert table.bad_lines == 0
    assert (found_row.utilization_pct, found_row.memory_used_mib, found_row.temperature_c) == (
        utilization,
        memory_mib,
        degrees,
    )
    assert found_row.power_w == pytest.approx(power_w, abs=0.006)
    assert found_row.timestamp_unix_s == pytest.approx(at_unix_s, abs=0.0006)
    assert (found_row.index, found_row.uuid) == ("0", "GPU-0000")


def test_a_line_is_ascii() -> None:
    line = row(DEVICE, reading(), at_unix_s=1.5).decode()
    assert "180.40 W" in line
    assert line.isascii()
