"""Tests that squeue's rows become records, whatever a name holds."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.slurm.squeue import Parser, SqueueAnswer, SqueueRow, argv, parse_places
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import TERMINAL, State

SUBMITTED, STARTED, ENDS = 1_700_000_000, 1_700_000_060, 1_700_003_660


def parse(text: str) -> SqueueAnswer:
    """What a parser that has seen no answer before makes of this one."""
    return Parser().parse(text)


def record(**changed: str) -> str:
    fields = {
        "id": "123",
        "state": "RUNNING",
        "submit": str(SUBMITTED),
        "start": str(STARTED),
        "end": str(ENDS),
        "elapsed": "4:52",
        "limit": "1:00:00",
        "reason": "None",
        "node_list": "n1",
        "command": "/exp/r1/eval/a.slurm",
        "name": "eval-a",
    }
    return "\x1e" + "\x1f".join((fields | changed).values()) + "\n"


def only_row(text: str) -> SqueueRow:
    answer = parse(text)
    assert answer.bad_rows == 0
    assert len(answer.rows) == 1
    return answer.rows[0]


def test_one_call_asks_about_all_jobs_of_the_user_including_ended_ones() -> None:
    expected = ["squeue", "-a", "-h", "--me", "-r", "-t", "all", "-o"]
    assert expected == argv()[:-1]
    assert argv()[-1].startswith("\x1e%i\x1f%T\x1f")
    assert argv()[-1].endswith("\x1f%j")


def test_a_running_job_is_parsed_completely() -> None:
    expected = SqueueRow(
        job_id=JobId("123"),
        state=State.RUNNING,
        state_word="RUNNING",
        submitted_at=SUBMITTED,
        started_at=STARTED,
        ends_at=ENDS,
        elapsed_s=None,
        time_limit_s=3600,
        reason="None",
        node_list="n1",
        command="/exp/r1/eval/a.slurm",
        name="eval-a",
    )
    assert expected == only_row(record())


def test_output_of_22_05_is_parsed() -> None:
    printed = (
        "\x1e6+1\x1fCOMPLETED\x1f1795446135\x1f1795446136\x1f1795446137\x1f0:01\x1f1-00:00:00\x1fNone"
        "\x1fn2\x1f/tmp/j.sh\x1fj.sh\n"
        "\x1e2_3\x1fPENDING\x1f1795446093\x1fN/A\x1fN/A\x1f0:00\x1f1-00:00:00\x1fJobHeldUser\x1f"
        "\x1f(null)\x1fwrap\n"
    )
    het, task = parse(printed).rows
    assert (JobId("6+1"), State.COMPLETED, 1.0) == (het.job_id, het.state, het.elapsed_s)
    assert (JobId("2_3"), State.PENDING, None, "") == (
        task.job_id,
        task.state,
        task.started_at,
        task.command,
    )


def test_an_unchanged_row_is_the_same_object_even_if_its_elapsed_time_advances() -> None:
    parser = Parser()
    texts = [
        record(id="1", state="PENDING") + record(id="2", elapsed="4:52"),
        record(id="2", elapsed="5:52") + record(id="1", state="PENDING"),
        record(id="1", state="PENDING", reason="Priority") + record(id="2", state="COMPLETED", elapsed="5:52"),
        record(id="1") + record(id="2", state="COMPLETED", elapsed="5:52"),
    ]
    answers = [{row.job_id: row for row in parser.parse(text).rows} for text in texts]
    same = [[later[job] is earlier[job] for job in earlier] for earlier, later in pairwise(answers)]
    assert [[True, True], [False, False], [False, True]] == same
    assert [parse(text).rows for text in texts] == [Parser().parse(text).rows for text in texts]
    assert (352.0, None) == (answers[-1][JobId("2")].elapsed_s, answers[-1][JobId("1")].elapsed_s)


@pytest.mark.parametrize("word", ["PENDING", "CONFIGURING", "REQUEUE_HOLD", "FROZEN"])
def test_the_estimated_start_of_a_pending_job_is_unknown(word: str) -> None:
    row = only_row(record(state=word))
    expected = (None, None, None)
    assert expected == (row.started_at, row.ends_at, row.elapsed_s)


def test_a_job_cancelled_in_the_queue_never_started() -> None:
    row = only_row(record(state="CANCELLED", start=str(ENDS), end=str(ENDS), node_list=""))
    expected = (State.CANCELLED, None, ENDS)
    assert expected == (row.state, row.started_at, row.ends_at)


def test_the_text_of_an_unknown_state_is_kept() -> None:
    row = only_row(record(state="FROZEN"))
    expected = (None, "FROZEN")
    assert expected == (row.state, row.state_word)


@pytest.mark.parametrize(
    ("changed", "attribute"),
    [
        ({"limit": "UNLIMITED"}, "time_limit_s"),
        ({"limit": "NOT_SET"}, "time_limit_s"),
        ({"state": "COMPLETED", "elapsed": "INVALID"}, "elapsed_s"),
        ({"submit": "N/A"}, "submitted_at"),
        ({"start": "Unknown"}, "started_at"),
        ({"end": "0"}, "ends_at"),
    ],
)
def test_an_empty_field_is_none(changed: dict[str, str], attribute: str) -> None:
    assert None is getattr(only_row(record(**changed)), attribute)


@pytest.mark.survives("F13")
@pytest.mark.parametrize("name", ["a\nb", "a\x1fb", "\n999\x1f999\x1fCOMPLETED", "", "a|b", "\ufffd", "x\n"])
def test_a_name_cannot_forge_a_row(name: str) -> None:
    first, second = parse(record(name=name) + record(id="124")).rows
    assert (JobId("123"), name, JobId("124")) == (first.job_id, name, second.job_id)
    assert name == first.name


@pytest.mark.survives("F13")
@pytest.mark.parametrize(
    "bad",
    [
        "\x1ehello\n",
        record(id="123;rm"),
        record(id="123_[1-3]"),
        record(state=""),
        record()[: len(record()) // 2],
    ],
)
def test_a_malformed_record_is_counted_and_the_others_are_parsed(bad: str) -> None:
    answer = parse(record() + bad + record(id="124"))
    expected = ([JobId("123"), JobId("124")], 1)
    assert expected == ([row.job_id for row in answer.rows], answer.bad_rows)


@pytest.mark.survives("F13")
def test_text_before_the_first_record_is_counted() -> None:
    expected = 1
    assert expected == parse("slurm_load_jobs: hello\n" + record()).bad_rows


def test_lines_that_name_clusters_belong_to_no_job() -> None:
    text = "CLUSTER: a\n" + record() + "\nCLUSTER: b\n" + record(id="7", name="last")
    answer = parse(text)
    expected = (["eval-a", "last"], 0)
    assert expected == ([row.name for row in answer.rows], answer.bad_rows)


def test_an_empty_answer_has_no_rows() -> None:
    assert SqueueAnswer((), 0) == parse("")
    assert SqueueAnswer((), 0) == parse("\n")


@pytest.mark.survives("F13")
@given(st.text(alphabet="\x1e\x1f\n 123_+RUNIGCOMPLETED:-", max_size=300))
def test_parsing_never_raises_or_invents_an_ended_job(text: str) -> None:
    for row in parse(text).rows:
        assert row.state not in TERMINAL or row.state_word.strip() in text


@pytest.mark.survives("F13")
@given(st.lists(st.sampled_from([record(), record(id="9_1"), "\x1e", "junk", "\x1ea\x1fb"]), max_size=20))
def test_every_valid_record_is_parsed_among_invalid_ones(parts: list[str]) -> None:
    good = sum(part.startswith(("\x1e123", "\x1e9_1")) for part in parts)
    assert good == len(parse("".join(parts)).rows)


@pytest.mark.survives("F13")
@pytest.mark.parametrize("piece", ["\x1e", "\x1f", "\n", "\nCLUSTER: ", "\x1ea\x1f"])
def test_a_large_answer_of_garbage_takes_linear_time(piece: str) -> None:
    started = time.monotonic()
    parse(record() + piece * 1_000_000)
    assert time.monotonic() - started < 10


def test_places_are_read_between_the_lines_of_clusters_and_bad_rows_are_left_out() -> None:
    def place(*fields: str) -> str:
        return "\x1e" + "\x1f".join(fields) + "\n"

    good = place("7", "1700000000", "gpu", "(null)", "normal", "/w/a b")
    task = place("8_1", "1700000000", "gpu", "lab", "normal", "/w/pair")
    text = "CLUSTER: a\n" + good + "\nCLUSTER: b\n" + task + place("x") + place("9", "1", "gpu") + place(*"9" * 7)
    found = [(d.job_id, d.submitted_at, d.partition, d.account, d.qos, d.work_dir) for d in parse_places(text)]
    assert found == [
        ("7", 1_700_000_000.0, "gpu", None, "normal", "/w/a b"),
        ("8_1", 1_700_000_000.0, "gpu", "lab", "normal", "/w/pair"),
    ]
