"""Tests the parsing of memory sizes of sacct, seff and sbatch, and their printing as seff does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.words.sizes import (
    counted,
    human_bytes,
    listed,
    parse_mem_option,
    parse_requested,
    parse_sacct,
    parse_seff,
)

MB = 1024**2
GB = 1024**3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("499092K", 511_070_208),
        ("2200M", 2200 * MB),
        ("64G", 64 * GB),
        ("60T", 60 * 1024 * GB),
        ("4.50K", 4608),
        ("13392806", 13_392_806),
        ("0", 0),
        ("", None),
        ("4Gc", None),
        ("16?", None),
        ("-1K", None),
        ("1.K", None),
        ("5KB", None),
    ],
)
def test_sacct_usage_is_parsed_as_bytes(text: str, expected: int | None) -> None:
    assert expected == parse_sacct(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4Gc", (4 * GB, "cpu")),
        ("4000Mn", (4000 * MB, "node")),
        ("40G", (40 * GB, None)),
        ("0n", (0, "node")),
        ("Gc", None),
    ],
)
def test_a_memory_request_is_per_cpu_or_per_node(text: str, expected: object) -> None:
    assert expected == parse_requested(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("32.29 GB", 34_671_123_497),
        ("0.00 MB", 0),
        ("11.14 MB", 11_681_137),
        ("5.00 EB", 5 * 1024**6),
        ("16.00 B", None),
        ("32.29", None),
        ("32.29 gb", None),
    ],
)
def test_seff_sizes_are_parsed_as_bytes_and_a_bare_b_is_none(text: str, expected: int | None) -> None:
    assert expected == parse_seff(text)


# As sbatch 22.05 understood each of them (`sbatch -vv --mem=...`).
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200M", 200 * MB),
        ("100MB", 100 * MB),
        ("4G", 4 * GB),
        ("4g", 4 * GB),
        ("4gb", 4 * GB),
        ("500", 500 * MB),
        ("1024K", MB),
        ("1T", 1024 * GB),
        ("0", None),
        ("1.5G", None),
        ("1P", None),
        ("4Gi", None),
        ("4 G", None),
        ("-1", None),
    ],
)
def test_a_mem_option_is_parsed_as_bytes(text: str, expected: int | None) -> None:
    assert expected == parse_mem_option(text)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (34_671_123_497, "32.29 GB"),
        (64 * GB, "64.00 GB"),
        (0, "0.00 MB"),
        (512, "0.50 KB"),
        (1024 * GB - 1, "1.00 TB"),
        (None, "unknown"),
    ],
)
def test_bytes_are_printed_like_seff(size: int | None, expected: str) -> None:
    assert expected == human_bytes(size)


@given(st.integers(1024, 10**18))
def test_printed_bytes_are_parsed_back_within_two_decimals(size: int) -> None:
    read_back = parse_seff(human_bytes(size))
    assert read_back == pytest.approx(size, rel=0.006)


@given(st.text())
def test_parsing_never_raises(text: str) -> None:
    for reader in (parse_sacct, parse_requested, parse_seff, parse_mem_option):
        reader(text)


def test_counted_uses_the_plural_except_for_one() -> None:
    assert ["0 jobs", "1 job", "2 jobs"] == [counted(number, "job") for number in range(3)]


def test_listed_shortens_a_long_list() -> None:
    assert ["a", "a, b", "a, b and 2 more"] == [listed(list(names), most=2) for names in ("a", "ab", "abcd")]
    assert "1 2 and 1 more" == listed(["1", "2", "3"], most=2, separator=" ")
