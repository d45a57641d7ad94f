"""Tests the parsing of job ids: only Slurm's own spelling, and never more tasks than a cluster accepts."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.words.job_id import (
    JobId,
    array_task,
    component_of,
    expand_pending,
    number_of,
    parse_array_spec,
    parse_job_id,
    split_step,
    task_of,
    whole_job,
    without_component,
)

jobs = st.integers(1, 2**32 - 1)
job_ids = st.one_of(
    st.builds(str, jobs),
    st.builds("{}_{}".format, jobs, st.integers(0, 4_000_001)),
    st.builds("{}+{}".format, jobs, st.integers(1, 127)),
)


@pytest.mark.parametrize(
    ("text", "expected"), [("123", "123"), ("123_4", "123_4"), ("123_0", "123_0"), ("123+1", "123+1"), ("123+0", "123")]
)
def test_every_spelling_is_parsed_and_component_0_is_its_job(text: str, expected: str) -> None:
    assert expected == parse_job_id(text)


@pytest.mark.parametrize(
    ("text", "whole", "number", "task", "component", "as_eval"),
    [
        ("123", "123", 123, None, None, "123"),
        ("123_0", "123", 123, 0, None, "123_0"),
        ("123_45", "123", 123, 45, None, "123_45"),
        ("123+0", "123", 123, None, None, "123"),
        ("123+2", "123", 123, None, 2, "123"),
    ],
)
def test_the_parts_of_an_id_are_returned(
    text: str, whole: str, number: int, task: int | None, component: int | None, as_eval: str
) -> None:
    job_id = parse_job_id(text)
    assert job_id is not None
    parts = (whole_job(job_id), number_of(job_id), task_of(job_id), component_of(job_id), without_component(job_id))
    assert (whole, number, task, component, as_eval) == parts


def test_array_task_joins_array_and_task() -> None:
    assert array_task(JobId("123"), 4) == parse_job_id("123_4")


@pytest.mark.survives("S6")
@pytest.mark.parametrize(
    "text",
    [
        "", "0", "-1", "+1", "0123", "123_", "123_04", "123+", "123_4+0", "123.batch", " 123", "123\n",
        "1;rm", "--help", "../x", "123_[1-3]", "1e3", "1_000", "\u0661\u0662", "99999999999", "123_4000002",
    ],
)  # fmt: skip
@pytest.mark.survives("S6")
def test_other_text_is_none(text: str) -> None:
    assert None is parse_job_id(text)


@given(job_ids)
def test_a_printed_id_is_parsed_back(job_id: str) -> None:
    assert job_id == parse_job_id(job_id)


@pytest.mark.survives("S6")
@given(st.text())
def test_parsing_never_raises_and_parsed_ids_print_the_same(text: str) -> None:
    job_id = parse_job_id(text)
    assert job_id is None or text in {job_id, f"{job_id}+0"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("123_4.batch", ("123_4", "batch")),
        ("123+0.extern", ("123", "extern")),
        ("123.0", ("123", "0")),
        ("123.0+1", ("123", "0+1")),
        ("5610980.ext+", ("5610980", "ext+")),
        ("123", ("123", None)),
        ("123.", None),
        ("123.ba tch", None),
        ("123_[1-3].batch", None),
        (".batch", None),
    ],
)
def test_a_step_is_split_from_its_job(text: str, expected: tuple[str, str | None] | None) -> None:
    assert expected == split_step(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-7", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("1,3,5-9:2%4", (1, 3, 5, 7, 9)),
        ("[0-2]", (0, 1, 2)),
        ("3,1,1-2", (1, 2, 3)),
        ("1-10:20", (1,)),
        ("7", (7,)),
        ("4000001", (4_000_001,)),
    ],
)
def test_an_array_specification_gives_its_task_ids(text: str, expected: tuple[int, ...]) -> None:
    assert expected == parse_array_spec(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "5-3", "1-3:0", "1,,2", "a", "1-", "-3", "4000002", "0-4000000", "1, 3", "1-3%", "1-3%x",
        "1,3,...", ",".join(["0-999999"] * 2), "1-3:2:1",
    ],
)  # fmt: skip
def test_an_invalid_or_too_large_specification_is_refused(text: str) -> None:
    assert None is parse_array_spec(text)


def test_a_short_specification_cannot_cause_much_work() -> None:
    started = time.monotonic()
    assert None is parse_array_spec(",".join(["0-1000000"] * 100_000))
    assert time.monotonic() - started < 5


@given(st.sets(st.integers(0, 5000), min_size=1, max_size=50))
def test_a_list_of_tasks_is_parsed_back(tasks: set[int]) -> None:
    assert tuple(sorted(tasks)) == parse_array_spec(",".join(map(str, tasks)))


@given(st.text(alphabet="0123456789,-:%[]_.", max_size=40))
def test_parsing_a_specification_never_raises(text: str) -> None:
    parse_array_spec(text)
    expand_pending(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20956421_[2-4%25]", ("20956421_2", "20956421_3", "20956421_4")),
        ("123_[4-5,12-14:2%2]", ("123_4", "123_5", "123_12", "123_14")),
        ("123_4", ("123_4",)),
        ("123", ("123",)),
        ("123+1", ("123+1",)),
    ],
)
def test_one_row_gives_all_its_pending_tasks(text: str, expected: tuple[str, ...]) -> None:
    assert expected == expand_pending(text)


@pytest.mark.parametrize("text", ["123_[1,3,...]", "123_[1-3", "123_[]", "123+0_[1]", "123_4_[1]", "_[1]", "x"])
def test_a_truncated_or_broken_range_gives_none(text: str) -> None:
    assert None is expand_pending(text)
