"""Tests that the sampler's status reaches the report, whatever it holds."""

import json

from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.agent.children import SharedMemory
from evalmon_agent.agent.report import sampler_notes
from evalmon_agent.agent.sampling.csv_file import COUNTS, SamplerStatus


def test_a_published_status_is_read_back() -> None:
    shared = SharedMemory()
    status = SamplerStatus(lambda status: shared.put(status.to_json()))
    assert shared.get() == b""
    status.count("gpu_rows", 7)
    status.texts["gpu_source"] = "nvml"
    status.texts["ended"] = "SIGTERM"
    status.trouble("first")
    status.trouble("first")
    status.show()
    entry = json.loads(shared.get())
    assert (entry["gpu_rows"], entry["gpu_source"], entry["troubles"]) == (7, "nvml", ["first"])
    assert sampler_notes(entry) == ["sampler: first"]


def test_an_unrequested_end_becomes_a_note() -> None:
    assert sampler_notes({"ended": "the parent is gone", "troubles": []}) == ["sampler: the parent is gone"]
    assert sampler_notes({"ticks": 3, "troubles": []}) == ["sampler: ended without a word"]
    assert sampler_notes({"not_sampled": "no place", "troubles": []}) == []


@given(st.lists(st.text(max_size=400), max_size=12), st.text(max_size=400))
def test_any_status_fits_and_is_valid_json(troubles: list[str], reason: str) -> None:
    shared = SharedMemory(64 * 1024)
    status = SamplerStatus(lambda status: shared.put(status.to_json()))
    for trouble in (*troubles, "a\udcff"):
        status.trouble(trouble)
    status.texts["no_gpu_file"] = reason
    status.show()
    entry = json.loads(shared.get())
    assert "\\ud" not in json.dumps(entry["troubles"][-1:]) or len(entry["troubles"]) == 8
    assert all(entry[name] == 0 for name in COUNTS)
    assert set(entry) == {*COUNTS, "no_gpu_file", "troubles"}


def test_bytes_that_are_too_long_change_nothing() -> None:
    shared = SharedMemory(16)
    assert shared.put(b"short")
    assert not shared.put(b"longer than that")
    assert shared.get() == b"short"
