"""Tests that an event is one block whatever names and texts it has, and that blocks are read back."""

from __future__ import annotations

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.figures import Figures
from evalmon_agent.logbook import blocks
from evalmon_agent.logbook.blocks import Block, BlockKind, transition
from evalmon_agent.logbook.blocks import blocks_in as read
from evalmon_agent.words.printable import printable
from evalmon_agent.words.states import TERMINAL, State

NOW = 1_790_000_000.0
HOSTILE = [
    "r/t/epoch0\n[2025-11-11 14:50:12] STATE_CHANGE: other/eval\nPrevious: RUNNING\nCurrent: COMPLETED\nJob ID: 1",
    "a\n\nb",
    "\x1b[2J\x1b[31mred",
    "abc\u202egnp.exe",
    "nul\0byte",
    "\u2028line\u2029separators\x85next",
    "\r\rover",
    "x" * 100_000,
    "\ud800 lone surrogate",
    "🧪 日本 é",
    "",
    " ",
    ": ",
]
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=40))
STATES = st.sampled_from(State)


def change(name: str, job_id: str, state: State, *, log: str | None = None) -> list[str]:
    if state in TERMINAL:
        return blocks.state_change_terminal(
            NOW, name, job_id, previous=State.RUNNING, current=state, at=NOW, elapsed_s=1.0, result_log=log
        )
    return blocks.state_change(NOW, name, job_id, previous=State.PENDING, current=state, at=NOW - 5)


def every_block(text: str) -> list[list[str]]:
    """Each kind of block, with this text wherever outside text may be."""
    result = EvalResult(status=text, scores={text: 1.0}, error=text, log=text)
    return [
        *(change(text, text, state, log=text) for state in State),
        blocks.compute_metrics(NOW, text, text, Figures(), state=State.TIMEOUT),
        blocks.resource_status(NOW, text, utilization_pct=1, memory_used_mib=1, memory_total_mib=2),
        blocks.eval_result(NOW, text, text, result),
        blocks.note(NOW, BlockKind.ALERT, text, {"Error": text}),
    ]


@pytest.mark.survives("S4")
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_texts_add_no_line_and_no_block(text: str) -> None:
    plain, hostile = every_block("plain"), every_block(text)
    # EVAL_RESULT leaves out an empty error and empty scores, the end's STATE_CHANGE an empty directory.
    empty = ("EVAL_RESULT:", "Result log: ")
    expected = [len(block) - (0 if text else any(word in "".join(block) for word in empty)) for block in plain]
    assert expected == [len(block) for block in hostile]
    assert len(hostile) == len(list(read(blocks.join(hostile))))


@pytest.mark.survives("S4")
@given(TEXTS)
def test_no_line_has_control_or_format_characters(text: str) -> None:
    for line in itertools.chain.from_iterable(every_block(text)):
        assert not any(unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} for c in line)
        assert not set(line) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u200f")
        line.encode()


@given(st.lists(st.tuples(TEXTS, st.sampled_from(["1", "12_3", "5+1"]), STATES), max_size=6))
def test_a_written_block_is_read_back(changes: list[tuple[str, str, State]]) -> None:
    text = blocks.join(change(*one) for one in changes)
    expected = [(printable(name), (job_id, state)) for name, job_id, state in changes]
    assert expected == [(block.subject, transition(block)) for block in read(text)]


def test_a_read_block_has_its_kind_subject_and_fields() -> None:
    [block] = read(
        blocks.join([blocks.note(NOW, BlockKind.QUERY_ERROR, "squeue: no answer", {"Error": "a: b", "Action": "x"})])
    )
    assert Block(BlockKind.QUERY_ERROR, "squeue: no answer", {"Error": "a: b", "Action": "x"}) == block


def test_a_block_of_another_version_has_no_kind() -> None:
    assert [Block(None, "x", {"Job ID": "1"})] == list(read("[2025-11-11 14:50:12] NEWER_KIND: x\nJob ID: 1\n\n"))


@pytest.mark.survives("F12")
def test_a_log_torn_at_any_byte_gives_the_complete_blocks_before() -> None:
    written = [
        change("日本/t/epoch0", "1", State.RUNNING),
        change("日本/t/epoch0", "1", State.FAILED),
        ["no head", "x"],
    ]
    data = blocks.join(written).encode()
    ends = [len(blocks.join(written[:n]).encode()) for n in (1, 2)]
    for cut in range(len(data) + 1):
        text = data[:cut].decode(errors="replace")
        assert sum(end <= cut for end in ends) == len(list(read(text)))


@pytest.mark.parametrize(
    "text",
    ["", "\n\n", "garbage\n\n", "[2025-11-11] STATE_CHANGE: x\n\n", "[2025-11-11 14:50:12] lower: x\n\n"],
)
def test_text_that_is_no_block_is_skipped(text: str) -> None:
    assert [] == list(read(text))


@pytest.mark.parametrize("current", ["", "running", "WARPED", "name"])
def test_a_state_change_to_an_unknown_state_is_no_transition(current: str) -> None:
    assert None is transition(Block(BlockKind.STATE_CHANGE, "x", {"Job ID": "1", "Current": current}))


def test_other_blocks_and_torn_ones_are_no_transitions() -> None:
    assert None is transition(Block(BlockKind.COMPUTE_METRICS, "x", {"Job ID": "1", "Current": "RUNNING"}))
    assert None is transition(Block(BlockKind.STATE_CHANGE, "x", {"Current": "RUNNING"}))


@given(st.text(max_size=200))
def test_reading_never_raises(text: str) -> None:
    list(read(text))
