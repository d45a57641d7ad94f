"""Tests "Needs attention": each cause once, with its evidence and the command that helps."""

from __future__ import annotations

import msgspec
import pytest

from evalmon_agent.evidence.diagnosis.causes import Diagnosis
from evalmon_agent.evidence.result import EvalResult, SampleError
from evalmon_agent.summary import failures
from evalmon_agent.summary.attention import Group, groups, in_order, need_attention, verdict_line
from evalmon_agent.summary.build import VERDICTS
from evalmon_agent.summary.records import AlertSummary, EvalSummary, NodeSummary, Summary
from evalmon_agent.tracking.verdict import NOT_LOOKED_FOR
from summary.summarised import finished, summary_of

TIME = Diagnosis("time-limit", None, "Increase the eval's --time")
PYTHON = Diagnosis("python-error", "KeyError: 'x'\nlast", None)
MODULE = Diagnosis("missing-module", "No module named 'x'", "Install x")
URL = "its log is at a URL"


def changed(**values: object) -> EvalSummary:
    [ev] = summary_of(finished()).evals
    return msgspec.structs.replace(ev, **{"advice": [], "result": None, "log": "/o", **values})


def summary(*found: EvalSummary, **values: object) -> Summary:
    whole = {"evals": list(found), "experiment": "/exp/my study", "causes": failures.by_cause(found), "nodes": []}
    return msgspec.structs.replace(summary_of(finished()), **{**whole, **values})


def group(**values: object) -> Group:
    [found] = groups(summary(changed(**values)))
    return found


def failed(name: str, diagnosis: Diagnosis | None = TIME, verdict: str = "failed") -> EvalSummary:
    return changed(name=name, verdict=verdict, diagnosis=diagnosis)


def test_fifty_evals_that_failed_alike_are_one_entry() -> None:
    found = [*(failed(str(n)) for n in range(50)), failed("x", verdict="suspect"), failed("y", PYTHON)]
    titles = [(g.verdict, len(g.evals), g.title) for g in groups(summary(*found))]
    assert titles == [("failed", 51, "reached the time limit"), ("failed", 1, "raised a Python exception")]


def alert(name: str, cleared_at: str | None = None) -> AlertSummary:
    return AlertSummary("2026-01-01", "waits", name, "waits: QOSMaxWall", "cancel it", cleared_at)


def test_starved_and_unverified_evals_are_listed_and_ordinary_pending_ones_are_not() -> None:
    assert groups(summary(changed(verdict="active", advice=["Not submitted yet: ..."]), changed())) == []
    active = [changed(name=name, verdict="active") for name in "abc"]
    [waiting] = groups(summary(*active, alerts=[alert("a"), alert("b"), alert("c", cleared_at="2026-01-02")]))
    assert (waiting.headline, waiting.advice) == ("2 evals wait: QOSMaxWall", ["cancel it"])
    found = [
        changed(name=name, verdict="unverified", result_unknown=words)
        for name, words in zip("abcd", (URL, URL, None, NOT_LOOKED_FOR), strict=True)
    ]
    assert [(len(g.evals), g.evidence) for g in groups(summary(*found))] == [(2, URL), (1, None)]


def test_a_headline_begins_like_the_verdict_line() -> None:
    results = [EvalResult(status="success", sample_errors=[SampleError("api-rate-limit", "Error code: 429", 2)])]
    unfinished = Diagnosis("unfinished-samples", "2 of 10 samples failed", None)
    for ev in (changed(verdict="suspect", diagnosis=unfinished, results=results), failed("x", MODULE)):
        found = msgspec.structs.replace(summary(ev), verdicts={**dict.fromkeys(VERDICTS, 0), ev.verdict: 1})
        assert groups(found)[0].headline.startswith(verdict_line(found).partition("needs you: ")[2])


def test_evals_without_a_report_are_one_entry() -> None:
    alerts = [msgspec.structs.replace(alert(name), text="runs without reporting") for name in "ab"]
    [found] = groups(summary(*(changed(name=name, verdict="active") for name in "ab"), alerts=alerts))
    assert found.headline == "2 evals run without reporting"


def test_an_eval_whose_retry_was_refused_is_listed_with_its_cause() -> None:
    [found] = groups(summary(*(changed(name=n, verdict="failed", diagnosis=TIME, refusal="no\nway") for n in "ab")))
    assert found.advice == ["Increase the eval's --time", "Slurm refused to run it again: no ⏎ way"]


def test_evidence_of_several_lines_is_joined_into_one() -> None:
    assert group(verdict="failed", diagnosis=PYTHON).evidence == "KeyError: 'x' ⏎ last"


LOGS = "evalmon logs '/exp/my study' 'a b'"
RETRY = "evalmon retry '/exp/my study' --name 'a b'"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"verdict": "failed", "diagnosis": TIME}, [RETRY, LOGS]),
        ({"verdict": "failed", "diagnosis": MODULE}, [f"{RETRY} --force", LOGS]),
        ({"verdict": "refused", "log": None}, ["evalmon submit '/exp/my study'"]),
        ({"verdict": "unverified"}, [LOGS]),
        (
            {"verdict": "suspect", "result": EvalResult(status="error", kind="inspect-ai", log="/exp/my logs/x.eval")},
            [RETRY, "inspect view --log-dir '/exp/my logs'"],
        ),
    ],
)
def test_suggested_commands_are_quoted_for_a_shell(values: dict[str, object], expected: list[str]) -> None:
    assert group(**{"name": "a b", **values}).commands == expected


def test_the_command_for_many_evals_names_their_cause() -> None:
    [one] = groups(summary(failed("a"), failed("b")))
    assert one.commands[0] == "evalmon retry '/exp/my study' --cause time-limit"
    assert one.advice == ["Increase the eval's --time"]


def test_the_command_for_suspect_evals_names_the_cause_of_their_samples() -> None:
    results = [EvalResult(status="success", sample_errors=[SampleError("api-rate-limit", "Error code: 429", 2)])]
    unfinished = Diagnosis("unfinished-samples", "2 of 10 samples failed", None)
    evals = [changed(name=n, verdict="suspect", diagnosis=unfinished, results=results) for n in "ab"]
    [found] = groups(summary(*evals))
    assert ("did not complete all samples and hit the API's rate limit", 4) == (found.title, found.samples)
    assert found.commands[0].endswith(" --cause unfinished-samples")


def test_a_suspicious_node_is_listed_with_how_to_avoid_it() -> None:
    node = NodeSummary(node="n7", ran=6, failed=1, causes=["gpu-lost"], suspicious=True)
    found = groups(summary(changed(verdict="failed", diagnosis=PYTHON, nodes=["n7"]), nodes=[node]))
    assert found[1].commands == ["evalmon retry '/exp/my study' --exclude-nodes n7"]
    assert [ev.nodes for ev in found[1].evals] == [["n7"]]
    assert len(groups(summary(nodes=[msgspec.structs.replace(node, suspicious=False)]))) == 0


def test_evals_that_need_attention_come_first() -> None:
    verdicts = {"a": "ok", "b": "active", "c": "unverified", "d": "failed", "e": "ok", "f": "dropped"}
    evals = [changed(name=name, verdict=verdict) for name, verdict in verdicts.items()]
    assert [ev.name for ev in in_order(evals)] == ["d", "c", "b", "a", "e", "f"]
    assert need_attention(summary(*evals)) == {"c", "d"}


def test_a_pending_eval_needs_attention_while_its_alert_is_open() -> None:
    waiting = [changed(name=n, verdict="active", advice=["Slurm says JobHeldUser: It is held"]) for n in "abc"]
    alerts = [alert("a"), alert("b", cleared_at="2026-01-02")]
    assert need_attention(summary(*waiting, alerts=alerts)) == {"a"}
