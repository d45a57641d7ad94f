"""Tests the page's HTML: its content, and that outside text adds nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec
import pytest

from evalmon_agent.evidence.diagnosis.causes import Diagnosis
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.report_page.page import DRAWN_AT_MOST, TimeLine, drawn_evals, render
from evalmon_agent.summary.records import AlertSummary, Cost, EvalSummary, NodeSummary, Summary
from report_page.pages import Page
from report_page.studies import study, summary_of
from summary.summarised import mixed
from summary.summarised import summary_of as summary_of_state
from tracking.rows import Told

HOSTILE = [
    "<script>alert(1)</script>",
    '" onload="alert(1)',
    "' onmouseover='alert(1)",
    "</style><img src=x onerror=alert(1)>",
    "--></main><b>",
    "{{ 7 * 7 }}{% raw %}",
    "a\x00b\x1b[31mc\x7f",
    "line\nbreak\ttab",
    "\u202egnp.exe\u2066",
    "שלום עולם",
    "&lt;b&gt;&amp;",
    "x" * 500,
    "\ud800",
    "javascript:alert(1)",
]
PLAIN_ELEMENTS = Page(render(study(1, failing=1), plots={})).elements


def changed(**values: object) -> Summary:
    """A failed eval with these fields changed."""
    [ev] = study(1, failing=1).evals
    return summary_of([msgspec.structs.replace(ev, **values)])


def hostile_summaries(text: str) -> Iterator[Summary]:
    result = EvalResult(status=text, task=text, error=text, scores={}, log=text, kind="inspect-ai")
    whole = changed(
        name=text,
        log=f"/exp/{text}",
        diagnosis=Diagnosis(text, text, text),
        result=result,
        results=[result],
        advice=[text],
    )
    yield whole
    yield msgspec.structs.replace(whole, experiment=text, generated_at=text)
    yield changed(verdict="unverified", diagnosis=None, result=None, result_unknown=text)
    scored = EvalResult(status="success", scores={f"{text}/accuracy": 0.5}, task=text)
    yield changed(name=f"{text}/{text}/epoch1", results=[scored, scored])


@pytest.mark.survives("S4")
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_adds_no_element_no_attribute_and_no_control_character(text: str) -> None:
    for summary in hostile_summaries(text):
        html = render(summary, plots={}, note=text)
        page = Page(html)
        assert {tag for tag, _ in page.elements} <= {tag for tag, _ in PLAIN_ELEMENTS} | {"div"}
        names = {name for _, attrs in page.elements for name in attrs}
        assert not {name for name in names if name.startswith("on")}
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", html)
        assert all(
            re.match(r"#(e\d+|attention|scores|evals|gpus|cost|next)$|\.\./", a) for a in page.attributes("href")
        )
        html.encode()


def test_names_are_unchanged_and_right_to_left_text_is_isolated() -> None:
    html = render(changed(name="run/<b>&amp;/שלום"), plots={})
    assert "run/<b>&amp;/שלום" in Page(html).text
    assert re.search(r'<bdi class="name">[^<]*(<wbr>[^<]*)*שלום</bdi>', html)


@pytest.mark.parametrize(
    "summary",
    [study(0), study(1, failing=1), study(40), summary_of_state(mixed()), summary_of_state(Told())],
    ids=["none", "one", "many", "of each verdict", "nothing known"],
)
def test_the_page_is_complete_loads_nothing_runs_nothing_and_has_unique_ids(summary: Summary) -> None:
    html = render(summary, plots={("utilization", ev.name): "<svg></svg>" for ev in summary.evals})
    page = Page(html)
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert page.count("script") == page.count("link") == page.count("img") == page.count("iframe") == 0
    assert page.attributes("src") == []
    assert not re.search(r"https?:|url\(|@import", html)
    assert {address.removeprefix("#") for address in page.attributes("href") if address.startswith("#")} <= set(ids)
    assert set(page.attributes("aria-labelledby")) <= set(ids)
    assert "default-src 'none'" in page.attributes("content")[-1]


def test_the_first_lines_say_whether_it_worked_what_failed_why_and_what_to_type() -> None:
    text = Page(render(study(8, failing=8), plots={})).text
    name = "run00_lr1e-5/summaries/epoch1" if False else "run00_lr1e-5/translation_de_en/epoch1"
    assert f"7 of 8 evals succeeded; 1 needs you: {name} reached the time limit" in text
    attention = text.split("Needs attention")[2].partition("Scores")[0]  # the first one is the link
    assert f"$ evalmon retry /exp --name {name}".replace("$ ", "") in attention
    assert f"Output: /exp/{name}/slurm-1007.out" in attention


def test_fifty_equal_failures_are_one_entry() -> None:
    evals = [msgspec.structs.replace(ev, name=f"r/t/epoch{n}") for n, ev in enumerate(study(50, failing=1).evals)]
    same = [
        msgspec.structs.replace(ev, diagnosis=evals[0].diagnosis, state=evals[0].state, verdict="failed")
        for ev in evals
    ]
    page = Page(render(summary_of(same), plots={}))
    assert page.count("article") == 1
    assert "50 evals reached the time limit" in page.text
    assert "and 42 more" in page.text
    assert "evalmon retry /exp --cause time-limit" in page.text


def test_an_output_outside_the_experiment_is_named_without_a_link() -> None:
    for path in ("/elsewhere/o.out", "../x", "o.out"):
        page = Page(render(changed(log=path), plots={}))
        assert f"Output: {path}" in page.text
        assert not [address for address in page.attributes("href") if address.startswith("..")]
    linked = Page(render(changed(log="/exp/a b/#%.out"), plots={})).attributes("href")
    assert "../a%20b/%23%25.out" in linked


def test_unknown_values_are_empty_or_unknown_and_never_0() -> None:
    html = render(summary_of_state(mixed()), plots={})
    assert "None" not in Page(html).text
    running = next(row for row in html.split("<tr") if "array[3]" in row and "scope" in row)
    assert "active" in running
    assert re.findall(r"[1-9]?0 ?[%s]", Page(f"<table><tr{running.partition('</tr>')[0]}</tr></table>").text) == []


def test_without_plots_the_page_gives_the_reason_and_has_its_tables() -> None:
    page = Page(render(study(12), plots={}, note="The plots are missing: install it"))
    assert "The plots are missing: install it" in page.text
    assert "61% / 97% / 100%" in page.text
    assert "120.00 GB / 160.00 GB" in page.text


def test_beyond_200_evals_only_those_that_need_attention_are_drawn_and_all_are_listed() -> None:
    assert len(drawn_evals(study(200))) == 200
    summary = study(DRAWN_AT_MOST + 1)
    drawn = drawn_evals(summary)
    assert {ev.verdict for ev in drawn} == {"failed", "suspect"}
    page = Page(render(summary, plots={}))
    assert page.count("svg") == len(drawn)
    assert len(page.attributes("id")) > len(summary.evals)
    assert len(drawn_evals(study(2000))) == DRAWN_AT_MOST


@pytest.mark.parametrize(("count", "at_most_bytes"), [(200, 600_000), (1000, 2_000_000)])
def test_tables_of_many_evals_stay_small(count: int, at_most_bytes: int) -> None:
    assert len(render(study(count), plots={}).encode()) < at_most_bytes


def bars(ev: EvalSummary, summary: Summary) -> list[tuple[str, float, float]]:
    return [(bar.kind, bar.start_pct, bar.width_pct) for bar in TimeLine(summary).bars(ev)]


def attempted(*times: tuple[str | None, str | None, str | None], verdict: str = "ok") -> Summary:
    """An eval whose attempts were submitted, started and ended at these times of one hour."""
    [ev] = study(1, failing=0).evals
    [one] = ev.attempts

    def at(minute: str | None) -> str | None:
        return None if minute is None else f"2026-11-26T09:{minute}:00+00:00"

    attempts = [msgspec.structs.replace(one, submitted=at(a), started=at(b), ended=at(c)) for a, b, c in times]
    whole = summary_of([msgspec.structs.replace(ev, attempts=attempts, verdict=verdict)])
    return msgspec.structs.replace(whole, generated_at="2026-11-26T09:40:00+00:00")


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        (attempted(("00", "10", "20")), [("wait", 0, 50), ("run", 50, 50)]),
        (attempted(("00", None, "20")), [("wait", 0, 100)]),
        (attempted(("00", "10", None), verdict="active"), [("wait", 0, 25), ("run", 25, 75)]),
        (attempted(("00", None, None), verdict="active"), [("wait", 0, 100)]),
        (attempted((None, None, None)), []),
        (
            attempted(("00", "05", "10"), ("10", "15", "20")),
            [("wait", 0, 25), ("run", 25, 25), ("wait", 50, 25), ("run", 75, 25)],
        ),
    ],
)
def test_the_time_line_shows_pending_and_running_time_of_each_attempt(
    summary: Summary, expected: list[tuple[str, float, float]]
) -> None:
    assert bars(summary.evals[0], summary) == expected


def test_the_marks_of_the_time_line_are_round_local_times() -> None:
    line = TimeLine(attempted(("03", "10", "38")))
    assert [tick.text for tick in line.ticks] == ["09:10", "09:20", "09:30"]
    assert TimeLine(msgspec.structs.replace(attempted((None, None, None)), generated_at="x")).ticks == []


def test_a_suspicious_node_without_an_eval_that_needs_attention_and_an_alert_are_shown() -> None:
    whole = study(8, failing=0)
    node = NodeSummary(node="gpu07", ran=6, failed=5, causes=["gpu-lost"], suspicious=True)
    alert = AlertSummary(
        at=None, kind="waits", name=whole.evals[1].name, text="waits: <b>", advice="Cancel it", cleared_at=None
    )
    text = Page(render(msgspec.structs.replace(whole, nodes=[node], alerts=[alert]), plots={})).text
    assert "5 evals failed on the node gpu07" in text
    assert "evalmon retry /exp --exclude-nodes gpu07" in text
    assert f"{whole.evals[1].name} waits: <b> Cancel it" in text


def test_costs_are_in_the_first_lines_and_by_run_with_unknown_ones_marked() -> None:
    evals = study(24, failing=0).evals
    unknown = msgspec.structs.replace(evals[0], cost=Cost(cpu_hours=1.0))
    text = Page(render(summary_of([unknown, *evals[1:]]), plots={})).text
    head = text.partition("Scores")[0]
    assert "GPU-hours 37.84" in head
    assert "cost 94.60 EUR" in head
    cost = text.partition("CPU-hours Energy EUR ")[2]
    assert cost.startswith("run00_lr1e-5 12 unknown")
    assert "Unknown for 1 eval, and left out of the sum: GPU-hours." in cost
