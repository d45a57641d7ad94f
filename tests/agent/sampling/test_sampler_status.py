"""Tests that the sampler's status reaches the report, whatever it holds."""

from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.agent.sampling.sampler_status import COUNTS, SamplerStatus, StatusPage, notes_of, parse


def test_a_published_status_is_read_back() -> None:
    page, status = StatusPage(), SamplerStatus()
    assert page.content() == b""
    status.count("gpu_rows", 7)
    status.texts["gpu_source"] = "nvml"
    status.texts["ended"] = "SIGTERM"
    status.trouble("first")
    status.trouble("first")
    page.show(status)
    entry = parse(page.content())
    assert (entry["gpu_rows"], entry["gpu_source"], entry["troubles"]) == (7, "nvml", ["first"])
    assert notes_of(entry) == ["sampler: first"]


def test_an_unrequested_end_becomes_a_note() -> None:
    assert notes_of(parse(b"ended the parent is gone\n")) == ["sampler: the parent is gone"]
    assert notes_of(parse(b"ticks 3\n")) == ["sampler: ended without a word"]
    assert notes_of(parse(b"not_sampled no place\n")) == []


@given(st.lists(st.text(max_size=400), max_size=12), st.text(max_size=400))
def test_any_status_fits_its_page_and_line(troubles: list[str], reason: str) -> None:
    page, status = StatusPage(), SamplerStatus()
    for trouble in troubles:
        status.trouble(trouble)
    status.texts["no_gpu_file"] = reason
    page.show(status)
    entry = parse(page.content())
    assert all(entry[name] == 0 for name in COUNTS)
    assert len(entry["troubles"]) <= len(set(troubles))
    assert set(entry) <= {*COUNTS, "no_gpu_file", "troubles"}


@given(st.binary(max_size=300))
def test_reading_accepts_any_bytes(data: bytes) -> None:
    assert isinstance(parse(data)["troubles"], list)
