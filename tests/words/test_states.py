"""Tests the parsing of states: every form that Slurm prints, and no terminal state from an unknown word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.words.states import ACTIVE, MAY_RUN_AGAIN, TERMINAL, State, cancelled_by, exit_in_words, parse_state

SAID_BY_SLURM = sorted(set(State) - {State.LOST, State.UNSUBMITTED})
TERMINAL_WORDS = {
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL",
    "DEADLINE", "REVOKED", "CD", "F", "CA", "TO", "OOM", "NF", "PR", "BF", "DL", "RV",
}  # fmt: skip


@pytest.mark.parametrize("state", SAID_BY_SLURM)
def test_each_state_is_parsed_by_its_full_name(state: State) -> None:
    assert state is parse_state(state.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CANCELLED by 1001", State.CANCELLED),
        ("CANCELLED+", State.CANCELLED),
        ("OUT_OF_ME+", State.OUT_OF_MEMORY),
        ("NODE_FAI+", State.NODE_FAIL),
        ("REQUEUE+", State.REQUEUED),
        ("Node_fail", State.NODE_FAIL),
        ("completed", State.COMPLETED),
        (" RUNNING\n", State.RUNNING),
        ("CONFIGURING", State.PENDING),
        ("RESV_DEL_HOLD", State.PENDING),
        ("COMPLETING", State.RUNNING),
        ("STAGE_OUT", State.RUNNING),
        ("RESIZING", State.RUNNING),
        ("SIGNALING", State.RUNNING),
        ("STOPPED", State.RUNNING),
        ("EXPEDITING", State.RUNNING),
        ("REQUEUE_HOLD", State.REQUEUED),
        ("REQUEUE_FED", State.REQUEUED),
        ("SPECIAL_EXIT", State.REQUEUED),
    ],
)
def test_every_form_that_slurm_prints_is_parsed(text: str, expected: State) -> None:
    assert expected is parse_state(text)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("CD", State.COMPLETED), ("F", State.FAILED), ("TO", State.TIMEOUT), ("CA", State.CANCELLED),
        ("NF", State.NODE_FAIL), ("PR", State.PREEMPTED), ("BF", State.BOOT_FAIL), ("DL", State.DEADLINE),
        ("OOM", State.OUT_OF_MEMORY), ("RV", State.REVOKED), ("R", State.RUNNING), ("PD", State.PENDING),
        ("S", State.SUSPENDED), ("CG", State.RUNNING), ("CF", State.PENDING), ("RQ", State.REQUEUED),
        ("RH", State.REQUEUED), ("RF", State.REQUEUED), ("SE", State.REQUEUED), ("RS", State.RUNNING),
        ("SI", State.RUNNING), ("SO", State.RUNNING), ("ST", State.RUNNING), ("RD", State.PENDING),
    ],
)  # fmt: skip
def test_short_codes_are_parsed(code: str, expected: State) -> None:
    assert expected is parse_state(code)
    assert expected is parse_state(code.lower())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COMPLETED,REQUEUED", State.REQUEUED),
        ("COMPLETED,COMPLETING", State.RUNNING),
        ("PENDING|CONFIGURING", State.PENDING),
        ("CANCELLED,REVOKED", State.REVOKED),
    ],
)
def test_a_flag_outweighs_the_base_state_before_it(text: str, expected: State) -> None:
    assert expected is parse_state(text)


@pytest.mark.parametrize("text", ["", " ", "?", "RUNING", "COMPLETED,FROZEN", "FROZEN", "LOST", "DONE", "FAILED!"])
def test_an_unknown_word_is_none(text: str) -> None:
    assert None is parse_state(text)


@pytest.mark.parametrize("text", ["COMPLET+", "CO+", "F+", "+", "RE+", "FAI+", "CANX+"])
def test_an_ambiguous_or_too_short_truncated_word_is_none(text: str) -> None:
    assert None is parse_state(text)


def test_every_state_is_either_active_or_terminal() -> None:
    assert set(State) == ACTIVE | TERMINAL
    assert not ACTIVE & TERMINAL
    assert MAY_RUN_AGAIN < TERMINAL


@given(st.text())
def test_parsing_never_raises_or_invents_a_terminal_state(text: str) -> None:
    state = parse_state(text)
    if state in TERMINAL:
        words = text.upper().split(maxsplit=1)[0].replace("|", ",").split(",")
        cut = {word for full in TERMINAL_WORDS for word in (f"{full[:n]}+" for n in range(4, len(full) + 1))}
        assert set(words) <= TERMINAL_WORDS | cut


@given(st.sampled_from(SAID_BY_SLURM), st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=12))
def test_a_known_word_with_letters_after_it_is_none(state: State, letters: str) -> None:
    assert state is not parse_state(state.value + letters)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("CANCELLED by 1001", 1001), ("CANCELLED by 0", 0), ("CANCELLED", None), ("COMPLETED", None), ("", None)],
)
def test_the_user_who_cancelled_is_parsed(text: str, expected: int | None) -> None:
    assert cancelled_by(text) == expected


def test_exit_in_words_prefers_the_signal_and_is_empty_for_success() -> None:
    assert ["signal 9", "exit status 3", "", ""] == [
        exit_in_words(code, signal) for code, signal in ((3, 9), (3, None), (0, 0), (None, None))
    ]
