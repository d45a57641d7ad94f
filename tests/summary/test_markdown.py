"""Tests summary.md, rendered and as raw text in a terminal."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from evalmon_agent.evidence.diagnosis.causes import Diagnosis
from evalmon_agent.evidence.result import EvalResult, SampleError
from evalmon_agent.summary import failures
from evalmon_agent.summary.markdown import render
from evalmon_agent.summary.records import EvalSummary, Summary
from evalmon_agent.tracking.records import Foreign
from evalmon_agent.words.states import State
from summary.summarised import finished, mixed, summary_of
from tracking.rows import Told, told

GOLDEN = Path(__file__).parent / "golden"


pytestmark = pytest.mark.usefixtures("in_berlin")


def changed(**values: object) -> Summary:
    """The finished experiment, with these fields of its eval changed."""
    whole = summary_of(finished())
    [ev] = whole.evals
    return msgspec.structs.replace(whole, evals=[msgspec.structs.replace(ev, **values)])


def test_the_page_of_a_mixed_experiment() -> None:
    assert (GOLDEN / "mixed.md").read_text() == render(summary_of(mixed(), now=2000))


def test_the_page_of_a_finished_experiment() -> None:
    assert (GOLDEN / "finished.md").read_text() == render(summary_of(finished()))


def test_an_unobserved_eval_is_unknown_everywhere_and_never_0() -> None:
    row = next(line for line in render(summary_of(told())).split("\n") if "epoch0" in line)
    assert ["unknown"] * 2 == [cell.strip() for cell in row.split("|")[5:7]]
    assert " 0" not in row.split("PENDING")[1]


def test_an_empty_experiment_has_a_page() -> None:
    text = render(summary_of(Told()))
    assert "**No evals yet**" in text
    assert "Needs attention" not in text


HOSTILE = [
    "a|b",
    "a\n| x | y |",
    "<script>",
    "[x](http://e)",
    "![x](y)",
    "`x`",
    "*x*",
    "_x_",
    "__x__",
    "\\",
    "&lt;",
    "~~x~~",
    "[x][y]",
    "[x]: y",
]


@pytest.mark.survives("S4")
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_adds_no_row_no_cell_and_no_markup(name: str) -> None:
    plain, hostile = (render(changed(name=text)).split("\n") for text in ("plain", name))
    assert len(plain) == len(hostile)
    [row] = [line for line in hostile if " | 123 | " in line]
    assert 10 == len(re.split(r"(?<!\\)\|", row)) - 2
    shown = row.split(" | 123 | ")[0].removeprefix("| ")
    assert not re.search(r"(?<!\\)[<*`~&]|(?<!\\)\]\(|(?<!\\)\]\[|(?<!\\)\]:", shown)
    assert not re.search(r"(?<![\\A-Za-z0-9])_|(?<!\\)_(?![A-Za-z0-9])", shown)


@pytest.mark.parametrize("name", ["r8_lr1e-5/capitalization/epoch0", "r/array[3]", "a-b.c@d"])
def test_ordinary_names_are_readable_in_the_raw_text(name: str) -> None:
    assert f"| {name} | 123 |" in render(changed(name=name))


def problem(**values: object) -> list[str]:
    """The eval's entry in "Needs attention": the headline and the details."""
    whole = changed(**{"advice": [], "log": None, **values})
    whole = msgspec.structs.replace(whole, causes=failures.by_cause(whole.evals))
    part = render(whole).partition("## Needs attention\n\n")[2].partition("\n\n")[0]
    lines = [line.strip() for line in part.split("\n")]
    return (
        [lines[0].partition("epoch0 ")[2].replace(" (0.08 GPU-hours)", ""), lines[-1].partition("): ")[2]]
        if part
        else []
    )


def test_an_ok_or_active_eval_needs_no_attention() -> None:
    assert problem() == problem(verdict="active") == []


UNKNOWN = "failed for an unknown reason**"


@pytest.mark.parametrize(
    ("values", "headline", "end"),
    [
        (
            {"exit_code": 3, "log": "/o"},
            UNKNOWN,
            "exit status 3; the eval's log says success, 10 of 10 samples; output: /o",
        ),
        ({"result": None, "exit_code": None, "signal": 9}, UNKNOWN, "ended by signal 9"),
        ({"result": None, "exit_code": None}, UNKNOWN, "nothing more is known of its end"),
        ({"result": EvalResult(status="error", error="a\nb")}, UNKNOWN, "the eval's log says error: a\\\\nb"),
        (
            {"result": None, "exit_code": 4, "diagnosis": Diagnosis("unknown", "one\ntwo", None)},
            f"{UNKNOWN}: one ⏎ two",
            "exit status 4",
        ),
        (
            {"result": None, "exit_code": None, "diagnosis": Diagnosis("time-limit", "*x*", "advice")},
            "reached the time limit**: \\*x\\*",
            "nothing more is known of its end",
        ),
    ],
)
def test_a_failed_eval_is_shown_with_all_details(values: dict[str, object], headline: str, end: str) -> None:
    assert problem(verdict="failed", **values) == [headline, end]


def test_many_evals_that_failed_alike_take_five_lines() -> None:
    ev = changed(verdict="failed", diagnosis=Diagnosis("time-limit", None, "Do *this*"), result=None).evals[0]
    evals = [msgspec.structs.replace(ev, name=f"r/{number}", exit_code=None) for number in range(50)]
    whole = msgspec.structs.replace(changed(), evals=evals, causes=failures.by_cause(evals))
    part = render(whole).partition("## Needs attention\n\n")[2].partition("\n\n")[0]
    assert part.split("\n") == [
        "* **50 evals reached the time limit** (4.06 GPU-hours)",
        "  * Do \\*this\\*",
        "  * `evalmon retry /exp --cause time-limit` or `evalmon logs /exp r/0`",
        "  * r/0 (COMPLETED): output: /exp/slurm-123.out",
        "  * also r/1, r/2, r/3 (+46 more)",
    ]


def test_results_have_a_table_only_if_there_is_a_log() -> None:
    started = EvalResult(status="started", samples_completed=3)
    many = EvalResult(
        status="success",
        task="capitals",
        model="hf/m",
        samples_completed=2,
        samples_total=3,
        samples_failed=1,
        samples_limited=2,
        sample_errors=[SampleError("api-rate-limit", "Error code: 429 | N", 1)],
        scores={"a|b/acc": 2 / 3, "a/stderr": 0, "c": None},
        log="/l",
    )
    name = "r8_lr1e-5/capitalization/epoch0"
    table = render(changed(result=started, results=[started, many]))
    assert f"| {name} | unknown | unknown | started | 3 of unknown | not scored | unknown |" in table
    scores = "a\\|b/acc 0.666667, a/stderr 0, c nan"
    assert f"| {name} | capitals | hf/m | success | 2 of 3, 1 failed, 2 stopped by a limit | {scores} | /l |" in table
    why = "1 of 3 samples failed: 1 api-rate-limit (Error code: 429 \\| N)"
    assert f"\n\n* **{name}**, capitals: {why}\n" in table
    assert "## Results" not in render(changed(result=None, results=[]))


def test_earlier_attempts_are_shown_with_their_end() -> None:
    ev: EvalSummary = summary_of(finished()).evals[0]
    [last] = ev.attempts
    killed = msgspec.structs.replace(last, job_id="99", state="TIMEOUT", elapsed_s=61.0, exit_code=None, signal=15)
    failed = msgspec.structs.replace(last, job_id="98", state="FAILED", elapsed_s=None, exit_code=3)
    line = (
        f"* **{ev.name}**: job 98 FAILED (unknown, exit status 3), then job 99 TIMEOUT (00:01:01, signal 15), "
        "then job 123 COMPLETED (00:04:52)"
    )
    assert f"## More than one attempt\n\n{line}\n" in render(changed(attempts=[failed, killed, last]))
    assert "attempt" not in render(summary_of(finished()))
    doubtful = msgspec.structs.replace(last, verdict="suspect")
    assert "job 123 COMPLETED, suspect (00:04:52), then job 123" in render(changed(attempts=[doubtful, last]))


@pytest.mark.parametrize(("state", "cause"), [("OUT_OF_MEMORY", None), ("FAILED", "host-out-of-memory")])
@pytest.mark.parametrize("used", [69, 100, None])
def test_a_peak_below_the_limit_of_an_out_of_memory_job_is_marked_as_sampled(
    state: str, cause: str | None, used: int | None
) -> None:
    known = {"state": State(state), "memory_used_bytes": used, "memory_requested_bytes": 100, "result": None}
    why = None if cause is None else Diagnosis(cause, None, "Increase it")
    text = problem(verdict="failed", log=None, diagnosis=why, **known)
    assert ("the memory figure (69% of the request) is sampled and missed the peak" in "; ".join(text)) == (used == 69)


def test_a_suspect_eval_is_shown_with_its_contradictions() -> None:
    ev: EvalSummary = summary_of(finished()).evals[0]
    torn = msgspec.structs.replace(ev.witnesses, self="exit 3", agree=False)
    known = {"verdict": "suspect", "result": None, "exit_code": None}
    assert problem(verdict="unverified", result=None, exit_code=0, result_unknown="its log is at a URL") == [
        "could not be verified**: its log is at a URL",
        "nothing more is known of its end",
    ]
    error = EvalResult(status="error")
    assert "the worst of its 2 logs says error" == problem(**{**known, "result": error, "results": [error, error]})[1]
    assert "Slurm says COMPLETED, the job itself exit 3" == problem(witnesses=torn, **known)[1]


def test_files_of_other_users_are_listed_once_and_at_most_twenty() -> None:
    whole = changed(foreign=[Foreign(f"/exp/logs/{number:02}|x.eval", "mall*ry") for number in range(25)])
    twice = msgspec.structs.replace(whole, evals=whole.evals * 2)
    lines = render(twice).partition("## Files of other users\n\n")[2].partition("\n\n")[0].split("\n")
    assert lines[0] == "* ignored, because it belongs to mall\\*ry: /exp/logs/00\\|x.eval"
    assert (len(lines), lines[-1]) == (21, "* (+5 more)")
    assert "other users" not in render(changed())
