"""What needs attention: the outcome in one line, and each group with its evidence and the command that helps."""

from __future__ import annotations

import msgspec
import pytest

from evalmon_agent.evidence.diagnosis.records import Diagnosis
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.summary.attention import Group, groups, headline, in_order
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.words.states import State
from summary.summarised import finished, summary_of

TIME = Diagnosis("time-limit", None, "Increase the eval's --time")
PYTHON = Diagnosis("python-error", "KeyError: 'x'\nlast", None)


def evals(**verdicts: str) -> list[EvalSummary]:
    return [changed(name=name, verdict=verdict) for name, verdict in verdicts.items()]


def changed(**values: object) -> EvalSummary:
    [ev] = summary_of(finished()).evals
    return msgspec.structs.replace(ev, **{"advice": [], **values})


def summary(*found: EvalSummary) -> Summary:
    return msgspec.structs.replace(summary_of(finished()), evals=list(found), experiment="/exp/my study")


def group(**values: object) -> Group:
    [found] = groups(summary(changed(**values)))
    return found


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], "No evals yet"),
        (evals(a="dropped"), "No evals yet"),
        (evals(a="ok"), "1 of 1 eval succeeded"),
        (evals(a="ok", b="dropped", c="ok"), "2 of 2 evals succeeded"),
        (evals(a="ok", b="active"), "1 of 2 evals succeeded so far, 1 is not over"),
        (evals(a="active", b="active"), "0 of 2 evals succeeded so far, 2 are not over"),
        (
            [*evals(a="ok"), changed(name="b", verdict="failed", diagnosis=TIME)],
            "1 of 2 evals succeeded; 1 needs you: b (the time limit was reached)",
        ),
        (
            [changed(name=str(n), verdict="failed", diagnosis=cause) for n, cause in enumerate([TIME, PYTHON, PYTHON])],
            "0 of 3 evals succeeded; 3 need you: a Python exception (2), the time limit was reached (1)",
        ),
        (
            [changed(name="u", verdict="unverified"), changed(name="r", verdict="refused"), *evals(s="suspect")],
            "0 of 3 evals succeeded; 3 need you: Slurm refused it (1), COMPLETED, cause unknown (1), and 1 more",
        ),
    ],
)
def test_the_first_line_says_the_outcome(found: list[EvalSummary], expected: str) -> None:
    assert headline(summary(*found)) == expected


def test_evals_that_failed_alike_are_one_group_and_unlike_ones_are_not() -> None:
    found = [changed(name=str(n), verdict="failed", diagnosis=TIME) for n in range(50)]
    found += [
        changed(name="x", verdict="suspect", diagnosis=TIME),
        changed(name="y", verdict="failed", diagnosis=PYTHON),
    ]
    assert [(g.verdict, len(g.evals)) for g in groups(summary(*found))] == [
        ("failed", 50),
        ("failed", 1),
        ("suspect", 1),
    ]


def test_what_waits_in_vain_needs_attention_and_what_only_waits_does_not() -> None:
    waits = "Slurm says QOSMaxWall: cancel it"
    assert group(verdict="active", advice=[waits]).advice == [waits]
    assert groups(summary(changed(verdict="active", advice=["Not submitted yet: ..."]))) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"verdict": "failed", "diagnosis": PYTHON}, "KeyError: 'x' ⏎ last"),
        ({"verdict": "suspect", "result": EvalResult(status="error", error="boom")}, "boom"),
        ({"verdict": "unverified", "result_unknown": "its log is at a URL"}, "its log is at a URL"),
        ({"verdict": "failed", "diagnosis": TIME}, None),
    ],
)
def test_the_line_that_shows_it(values: dict[str, object], expected: str | None) -> None:
    assert group(**{"result": None, **values}).evidence == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"verdict": "failed", "log": "/o"},
            ["evalmon retry '/exp/my study' --name 'a b'", "evalmon logs '/exp/my study' 'a b'"],
        ),
        ({"verdict": "refused", "log": None}, ["evalmon submit '/exp/my study'"]),
        ({"verdict": "unverified", "log": "/o"}, ["evalmon logs '/exp/my study' 'a b'"]),
        (
            {"verdict": "suspect", "result": EvalResult(status="error", kind="inspect-ai", log="/exp/my logs/x.eval")},
            ["evalmon retry '/exp/my study' --name 'a b'", "inspect view --log-dir '/exp/my logs'"],
        ),
    ],
)
def test_the_commands_that_help_are_quoted_for_a_shell(values: dict[str, object], expected: list[str]) -> None:
    assert group(**{"name": "a b", "result": None, **values}).commands == expected


def test_many_evals_are_retried_by_their_cause() -> None:
    found = [changed(name=str(n), verdict="failed", diagnosis=TIME, log=None) for n in range(2)]
    [one] = groups(summary(*found))
    assert one.commands == ["evalmon retry '/exp/my study' --cause time-limit"]
    assert one.title == "the time limit was reached"


def test_witnesses_that_disagree_and_an_unknown_end_have_words_too() -> None:
    ev = changed(verdict="suspect", diagnosis=None)
    torn = msgspec.structs.replace(ev.witnesses, self="exit 3", agree=False)
    assert group(verdict="suspect", witnesses=torn).title == "Slurm says COMPLETED, the job itself exit 3"
    assert group(verdict="failed", state=State.TIMEOUT).title == "TIMEOUT, cause unknown"


def test_those_that_need_attention_come_first() -> None:
    order = [ev.name for ev in in_order(evals(a="ok", b="active", c="unverified", d="failed", e="ok", f="dropped"))]
    assert order == ["d", "c", "b", "a", "e", "f"]
