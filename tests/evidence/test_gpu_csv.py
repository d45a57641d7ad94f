"""Tests the reading of gpu_metrics.csv: complete rows are read, torn ones counted, nothing is invented."""

from __future__ import annotations

import re
from datetime import datetime

import pytest
from gpu_texts import BEGIN_UNIX_S, OUR_HEADER, SMI_HEADER, our_row, our_tick, sampler_file, sampler_row, smi_row
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence.gpu_csv import GpuRow, parse

SMI_FILE = SMI_HEADER + smi_row(0) + smi_row(30, utilization=99) + smi_row(60)
OUR_FILE = OUR_HEADER + our_tick(0, 37, 40) + our_tick(30, 0, 100) + our_tick(60, 5, 6)
SAMPLER_FILE = sampler_file(
    *(
        sampler_row(30 * at, gpu, utilization_pct=at, utilization_mean_pct=12.5 + at, energy_j=5000.25, clock_reasons=4)
        for at in range(3)
        for gpu in (0, 1)
    )
)


def values(row: GpuRow) -> tuple[object, ...]:
    return (
        row.local_time,
        row.utilization_pct,
        row.memory_utilization_pct,
        row.memory_used_mib,
        row.memory_total_mib,
        row.power_w,
        row.temperature_c,
        row.index,
        row.uuid,
        row.timestamp_unix_s,
    )


def test_nvidia_smis_documented_row_is_read_cell_by_cell() -> None:
    text = SMI_HEADER + "2026/02/20 14:28:12.659, 37 %, 12 %, 3984 MiB, 81920 MiB, 180.40 W, 44\n"
    [row] = parse(text).rows
    when = datetime(2026, 2, 20, 14, 28, 12, 659000)  # noqa: DTZ001 (nvidia-smi prints no zone)
    assert values(row) == (when, 37, 12, 3984, 81920, 180.4, 44, None, None, None)


def test_evalmons_columns_are_read_by_their_header() -> None:
    row = parse(OUR_FILE).rows[1]
    assert (row.index, row.uuid, row.timestamp_unix_s) == ("1", "GPU-1a5b-11", BEGIN_UNIX_S)
    assert row.extras == {"sm.active [%]": "4.5", "throttled": "0"}


@pytest.mark.parametrize(
    "cell", ["[N/A]", "[Not Supported]", "[Unknown Error]", "[GPU is lost]", "[GPU requires reset]"]
)
def test_a_cell_without_a_value_is_unknown_and_the_row_counts(cell: str) -> None:
    [row] = parse(SMI_HEADER + smi_row(0).replace("37 %", cell).replace("180.40 W", cell)).rows
    assert (row.utilization_pct, row.power_w, row.memory_used_mib) == (None, None, 3984)


@pytest.mark.survives("F12")
def test_repeated_headers_and_crlf_are_no_bad_lines() -> None:
    table = parse((SMI_FILE + SMI_HEADER + smi_row(90)).replace("\n", "\r\n"))
    assert (len(table.rows), table.bad_lines) == (4, 0)


def test_after_a_second_header_its_columns_apply() -> None:
    table = parse(SMI_FILE + OUR_FILE)
    assert [row.index for row in table.rows] == [None, None, None, "0", "1", "0", "1", "0", "1"]
    assert table.bad_lines == 0


@pytest.mark.survives("F12")
def test_a_row_torn_in_the_power_cell_is_not_read_as_two_watts() -> None:
    torn = smi_row(60)[: smi_row(60).index("180.40") + 1]
    for end in ("", "\n", "2", " W, 44\n", "\0\0\0"):
        table = parse(SMI_HEADER + smi_row(0) + torn + end)
        assert [row.power_w for row in table.rows] == [180.4]
        assert table.bad_lines == 1


@pytest.mark.survives("F12")
def test_a_last_line_without_a_newline_never_counts() -> None:
    table = parse(SMI_FILE.removesuffix("\n"))
    assert (len(table.rows), table.bad_lines) == (2, 1)


@pytest.mark.survives("F12")
def test_a_row_written_after_a_torn_one_is_read() -> None:
    torn = smi_row(60)[:40]
    table = parse(SMI_FILE + torn + smi_row(90) + smi_row(120))
    assert (len(table.rows), table.bad_lines) == (5, 1)
    assert [row.beside_bad_line for row in table.rows] == [False, False, True, True, False]


@pytest.mark.survives("F12")
def test_a_header_written_after_a_torn_row_is_read() -> None:
    table = parse(OUR_FILE + our_row(90, 0)[:70] + SMI_HEADER + smi_row(120))
    assert (len(table.rows), table.bad_lines) == (7, 1)


@pytest.mark.survives("F12")
def test_a_row_of_evalmon_cut_after_the_seventh_cell_is_torn_even_with_a_newline() -> None:
    row = our_row(60, 0)
    cut = ", ".join(row.split(", ")[:7])[:-1]
    for text in (OUR_FILE + cut + "\n", OUR_FILE.split("\n", 1)[1] + cut + "\n"):
        table = parse(text)
        assert (len(table.rows), table.bad_lines) == (6, 1)


def test_a_time_stamp_without_its_last_digits_is_torn() -> None:
    header = SMI_HEADER.rstrip("\n") + ", index, uuid, timestamp_unix [s]\n"
    row = our_row(0, 0).rsplit(", ", 2)[0]
    assert len(parse(f"{header}{row}\n").rows) == 1
    assert parse(f"{header}{row[:-6]}\n").rows == ()


@pytest.mark.parametrize("year", ["0001", "1969", "9999"])
def test_a_time_that_not_every_zone_has_is_none(year: str) -> None:
    table = parse(SMI_HEADER + smi_row(0) + year + smi_row(1)[4:])
    assert (len(table.rows), table.bad_lines) == (1, 1)


def test_other_lines_nuls_and_impossible_values_are_counted_and_left_out() -> None:
    foreign = [
        "Unable to determine the device handle for GPU 0000:41:00.0: Unknown Error",
        "# comment",
        "\0" * 100,
        smi_row(0).strip().replace("37 %", "137 %"),
        smi_row(0).strip().replace("37 %", "37\0%"),
        smi_row(0).strip().replace("/20 ", "/99 "),
        smi_row(0).strip().replace("37 %", "٣٧ %"),
        smi_row(0).strip() + ", 5",
    ]
    table = parse(SMI_HEADER + "".join(line + "\n" for line in foreign) + smi_row(30))
    assert (len(table.rows), table.bad_lines) == (1, len(foreign))


def test_text_that_is_not_utf8_is_a_bad_line() -> None:
    table = parse(SMI_HEADER.encode() + b"\xff\xfe\n" + smi_row(0).encode())
    assert (len(table.rows), table.bad_lines) == (1, 1)


def test_an_empty_file_has_no_rows() -> None:
    assert (parse("").rows, parse(b"\n\r\n").rows, parse("").bad_lines) == ((), (), 0)


@pytest.mark.parametrize("whole", [SMI_FILE, OUR_FILE, SMI_FILE + OUR_FILE, SAMPLER_FILE])
@pytest.mark.survives("F12")
def test_a_file_cut_at_any_byte_gives_a_part_of_its_rows(whole: str) -> None:
    everything = [values(row) for row in parse(whole).rows]
    for cut in range(len(whole) + 1):
        head, tail = parse(whole[:cut]), parse(whole[cut:])
        assert [values(row) for row in head.rows] == everything[: len(head.rows)]
        assert len(head.rows) == len(everything) or head.bad_lines <= 1
        assert [row.extras for row in head.rows] == [row.extras for row in parse(whole).rows[: len(head.rows)]]
        of_tail = [values(row)[:7] for row in tail.rows]
        assert of_tail == [row[:7] for row in everything][len(everything) - len(of_tail) :]
        assert len(head.rows) + len(tail.rows) >= len(everything) - 1


@given(
    st.lists(
        st.one_of(
            st.sampled_from((SMI_FILE + OUR_FILE + SAMPLER_FILE).splitlines(keepends=True)),
            st.text(max_size=40),
            st.text(alphabet="0123456789 %MiBW[],./:GPU-\n\r\0", max_size=60),
            st.tuples(
                st.sampled_from([smi_row(0), our_row(0, 1), sampler_row(0), OUR_HEADER]), st.integers(0, 300)
            ).map(lambda cut: cut[0][: cut[1]]),
        ),
        max_size=30,
    )
)
@pytest.mark.survives("F12")
def test_any_mixture_of_lines_gives_only_rows_that_were_written(pieces: list[str]) -> None:
    text = "".join(pieces)
    written = {values(row)[:7] for text in (SMI_FILE, OUR_FILE, SAMPLER_FILE) for row in parse(text).rows}
    whole_lines = {values(row)[:7] for piece in text.split("\n") for row in parse(piece + "\n").rows}
    assert {values(row)[:7] for row in parse(text).rows} <= written | whole_lines


@given(st.binary(max_size=300))
def test_any_bytes_are_accepted(data: bytes) -> None:
    parse(data)
    parse(OUR_HEADER.encode() + data + our_row(0, 0).encode())


# Files that users' own scripts write.
NO_UNITS = re.sub(r"(?<=\d) (?:%|MiB|W)(?=,)", "", SMI_FILE)
OTHER_ORDER = "index, timestamp, name, power.draw [W], memory.used [MiB], utilization.gpu [%]\n" + "".join(
    f"{gpu}, 2026/02/20 14:28:{second}.659, NVIDIA H100, {power} W, 3984 MiB, 37 %\n"
    for second in (12, 42)
    for gpu, power in ((0, "180.40"), (1, "ERR!"))
)
STAMP = "2026/02/20 14:28:12.659"


def test_numbers_without_units_are_read_alike() -> None:
    assert "%," not in NO_UNITS
    assert [values(row) for row in parse(SMI_FILE).rows] == [values(row) for row in parse(NO_UNITS).rows]


@pytest.mark.parametrize("file", [SMI_FILE, NO_UNITS])
def test_without_a_header_seven_columns_are_read_as_the_documented_query(file: str) -> None:
    rows = parse(file.partition("\n")[2]).rows
    assert [values(row) for row in parse(file).rows] == [values(row) for row in rows]


def test_other_columns_in_another_order_are_read_by_their_header() -> None:
    table = parse(OTHER_ORDER)
    assert table.bad_lines == 0
    assert [(row.gpu, row.power_w, row.memory_used_mib, row.utilization_pct) for row in table.rows] == [
        ("0", 180.4, 3984, 37),
        ("1", None, 3984, 37),
    ] * 2
    assert {(row.memory_total_mib, row.temperature_c, row.memory_utilization_pct) for row in table.rows} == {
        (None,) * 3
    }
    assert table.rows[0].extras == {"name": "NVIDIA H100"}


def test_a_few_columns_without_blanks_are_read() -> None:
    [row] = parse(f"timestamp,utilization.gpu [%],memory.used [MiB]\n{STAMP},37 %,3984 MiB\n").rows
    assert (row.utilization_pct, row.memory_used_mib, row.power_w) == (37, 3984, None)
    assert parse(f"{STAMP}, 37 %, 3984 MiB\n").rows == ()  # which memory, which utilization?
    assert parse("utilization.gpu [%], memory.used [MiB]\n37 %, 3984 MiB\n").rows == ()  # when?


@pytest.mark.parametrize("cell", ["N/A", "ERR!", "Unknown Error", "[Unknown Error]", "[N/A] %"])
def test_words_for_a_missing_value_are_unknown(cell: str) -> None:
    for file in (SMI_FILE, NO_UNITS):
        for row in parse(re.sub(r"37(?: %)?(?=,)", cell, file)).rows[::2]:
            assert (row.utilization_pct, row.power_w, row.memory_used_mib) == (None, 180.4, 3984)


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("memory.used [MiB], power.draw [W]", "3.5 GiB, 180400 mW", (3584, 180.4)),
        ("memory.used [GiB], power.draw [mW]", "3.5, 180400", (3584, 180.4)),
        ("memory.used [B], power.draw [kW]", "3758096384 B, 0.1804 kW", (3584, 180.4)),
        ("memory.used, power.draw", "3584, 180.40", (3584, 180.4)),
        ("memory.used [GB], power.draw [W]", "4.194304 GB, 180.40 W", (4000, 180.4)),
        ("memory.used [pages], power.draw [hp]", "3584, 180.4", (None, None)),
        ("memory.used [MiB], power.draw [W]", "3584 pages, 180 hp", (None, None)),
    ],
)
def test_other_units_are_converted_and_unknown_ones_give_no_value(
    header: str, cells: str, expected: tuple[float | None, float | None]
) -> None:
    [row] = parse(f"timestamp, {header}\n{STAMP}, {cells}\n").rows
    assert expected == (row.memory_used_mib, pytest.approx(row.power_w) if row.power_w else row.power_w)


@pytest.mark.survives("F12")
@pytest.mark.parametrize("cells", ["37, 12 %, 3984 MiB, 81920 MiB, 180.40 W, 44", "37 %, 12 %, 3984, 81920, 180.4, 44"])
def test_a_row_with_units_in_only_some_cells_is_no_row(cells: str) -> None:
    assert (parse(SMI_HEADER + f"{STAMP}, {cells}\n").rows, parse(f"{STAMP}, {cells}\n").rows) == ((), ())


@pytest.mark.survives("F12")
@pytest.mark.parametrize("whole", [NO_UNITS, OTHER_ORDER, OTHER_ORDER + SMI_FILE])
def test_such_a_file_cut_at_any_byte_gives_a_part_of_its_rows(whole: str) -> None:
    everything = [values(row) for row in parse(whole).rows]
    for cut in range(len(whole) + 1):
        head, tail = parse(whole[:cut]), parse(whole[cut:])
        assert [values(row) for row in head.rows] == everything[: len(head.rows)]
        # A torn header may name fewer columns, but never others.
        for row, whole_row in zip(reversed(tail.rows), reversed(everything), strict=False):
            assert all(value in {None, expected} for value, expected in zip(values(row), whole_row, strict=True))
