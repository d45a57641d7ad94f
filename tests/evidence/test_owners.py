"""Tests that every log has at most one owner, by proof; otherwise it is unverified, with the reason."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from evalmon_agent.evidence import owners as o
from evalmon_agent.evidence.kinds.kind import ObservedProgram, Written
from evalmon_agent.evidence.owners import ObservedJob, owners, results
from evalmon_agent.evidence.result import EvalLog

INSPECT, LM_EVAL = "inspect-ai", "lm-evaluation-harness"


def program(at: float = 10, until: float | None = 50, **more: object) -> ObservedProgram:
    defaults: dict[str, object] = {"kind": INSPECT, "verb": "eval", "words": ("t.py",), "options": {}, "cwd": "/w"}
    return ObservedProgram(**({"started_at": at, "ended_at": until} | defaults | more))  # type: ignore[arg-type]


def lm_eval(at: float = 10, until: float | None = 50, **options: list[str]) -> ObservedProgram:
    return program(at, until, kind=LM_EVAL, verb="run", words=(), options=options)


def job(*programs: ObservedProgram, at: float = 0, until: float | None = 100, **more: object) -> ObservedJob:
    return ObservedJob(**({"started_at": at, "ended_at": until, "programs": programs} | more))  # type: ignore[arg-type]


def log(name: str = "a.eval", at: float | None = 20, **more: object) -> EvalLog:
    path = name if name.startswith("/") else f"/w/logs/{name}"
    created = None if at is None else datetime.fromtimestamp(at, tz=UTC)
    defaults: dict[str, object] = {"kind": INSPECT, "changed_at": (at or 20) + 5, "status": "success"}
    return EvalLog(**({"path": path, "created": created} | defaults | more))  # type: ignore[arg-type]


def wrote(path: str, **more: object) -> tuple[Written, ...]:
    return (Written(name=path.rpartition("/")[2], path=path, **more),)  # type: ignore[arg-type]


def known_by(jobs: dict[str, ObservedJob], *logs: EvalLog) -> dict[str, tuple[str, str]]:
    owned, _ = owners(jobs, logs)
    return {path.rpartition("/")[2]: (owner.job, owner.known_by) for path, owner in owned.items()}


def test_two_jobs_that_share_a_directory_each_own_the_log_of_their_process() -> None:
    jobs = {name: job(program(wrote=wrote(f"/w/logs/{name}.eval"))) for name in ("a", "b")}
    assert known_by(jobs, log("a.eval"), log("b.eval")) == {"a.eval": ("a", "process"), "b.eval": ("b", "process")}


def test_a_log_from_before_or_after_a_process_is_not_its_log() -> None:
    """As after `inspect score`, for a copy, or in a trace file of the same pid on another node."""
    jobs = {"a": job(program(30, 60, wrote=wrote("/w/logs/a.eval")))}
    assert known_by(jobs, log("a.eval", at=10)) == {}


def test_a_log_named_in_a_file_with_the_processs_pid_is_the_stronger_proof() -> None:
    line, name = wrote("/w/logs/a.eval"), wrote("/w/logs/a.eval", known_by=("name",))
    jobs = {"a": job(program(wrote=line)), "b": job(program(wrote=name))}
    assert known_by(jobs, log()) == {"a.eval": ("b", "process")}


def test_two_equal_claims_cancel_each_other() -> None:
    jobs = {name: job(program(wrote=wrote("/w/logs/a.eval"))) for name in ("a", "b")}
    assert known_by(jobs, log()) == {}
    assert {each.unverified for each in results(jobs, [log()]).values()} == {o.NOT_TOLD_APART}


def test_in_a_pid_namespace_a_log_line_needs_a_second_proof() -> None:
    seen = program(is_in_pid_namespace=True, wrote=wrote("/w/logs/a.eval"))
    jobs = {"a": job(replaced(seen, cwd=None)), "b": job(seen)}
    assert known_by(jobs, log()) == {"a.eval": ("b", "process")}


def test_lines_in_a_file_that_pid_namespaces_share_take_no_proved_result_away() -> None:
    """With one home, pid 1 of each holds the same file, in which all lines are."""
    lines = [*wrote("/w/logs/a.eval", known_by=("line",)), *wrote("/w/logs/b.eval", known_by=("line",))]
    earlier = wrote("/w/logs/earlier.eval", known_by=("line",))
    names = {name: wrote(f"/w/logs/{name}.eval", known_by=("line", "name")) for name in ("a", "b")}
    jobs = {
        "a": job(program(is_in_pid_namespace=True, wrote=(*names["a"], lines[1], *earlier))),
        "b": job(program(is_in_pid_namespace=True, wrote=(lines[0], *names["b"]))),
        "died": job(program(is_in_pid_namespace=True, wrote=tuple(lines))),
    }
    found = results(jobs, [log("a.eval"), log("b.eval"), log("earlier.eval", at=2)])
    assert [(list(each.logs), each.unverified) for each in found.values()] == [
        (["/w/logs/a.eval"], None),
        (["/w/logs/b.eval"], None),
        ([], None),
    ]
    assert [each.without_log for each in found.values()] == [[], [], [0]]


def test_a_line_that_another_namespaces_process_only_may_have_written_stays_in_doubt() -> None:
    own = wrote("/w/logs/a.eval", known_by=("line", "name"))
    line = wrote("/w/logs/b.eval", known_by=("line",))
    jobs = {
        "a": job(program(is_in_pid_namespace=True, cwd=None, wrote=(*own, *line))),
        "b": job(program(is_in_pid_namespace=True, wrote=line)),
    }
    assert results(jobs, [log("a.eval"), log("b.eval")])["a"].unverified is not None


@pytest.mark.parametrize("uri", ["/w/logs", "file:///w/logs"])
def test_a_log_name_counts_with_the_digest_of_its_directory(uri: str) -> None:
    digest = hashlib.sha256(uri.encode()).hexdigest()
    held = (Written(name="a.eval", directory_sha256=digest, known_by=("name",)),)
    jobs = {"a": job(program(wrote=held))}
    assert known_by(jobs, log(), log("/elsewhere/a.eval")) == {"a.eval": ("a", "process")}
    assert results(jobs, [log()])["a"].logs == {"/w/logs/a.eval": "process"}


def test_the_last_line_of_the_output_names_the_log() -> None:
    jobs = {"a": job(printed=("/w/logs/a.eval",)), "b": job()}
    assert known_by(jobs, log(), log("b.eval")) == {"a.eval": ("a", "output")}


def test_a_printed_log_is_the_result_of_one_program_not_of_each_that_may_have_written_it() -> None:
    printed = ("/w/logs/a.eval", "/w/logs/b.eval")
    one = results({"a": job(program(), program(), printed=printed)}, [log()])["a"]
    assert (one.unverified, one.without_log) == (o.NOT_TOLD_APART, [])
    both = results({"a": job(program(), program(), printed=printed)}, [log(), log("b.eval")])["a"]
    assert (both.unverified, both.without_log) == (None, [])


def test_a_program_with_unrecorded_logs_was_not_read_whole_even_if_it_was_told_a_url() -> None:
    cut = program(options={"log-dir": ("s3://b",)}, wrote=wrote("/w/logs/a.eval", known_by=("line",)), is_cut=True)
    found = results({"a": job(cut, not_all_read="no time left")}, [log()])["a"]
    assert (list(found.logs), found.unverified) == (["/w/logs/a.eval"], "no time left")


def test_of_a_log_that_another_program_named_it_is_unknown_whose_it_is() -> None:
    named = program(cwd="/v", wrote=wrote("/w/logs/a.eval", known_by=("line",)), is_in_pid_namespace=True)
    found = results({"a": job(program(), named, printed=("/w/logs/a.eval",))}, [log()])["a"]
    assert (found.unverified, found.without_log) == (o.NOT_TOLD_APART, [])


def test_a_log_that_only_one_program_can_have_written_is_its_log() -> None:
    jobs = {"a": job(program()), "b": job(program(cwd="/v")), "c": job(program(60, 90))}
    assert known_by(jobs, log()) == {"a.eval": ("a", "place")}


OTHERS = {
    "at the same directory": job(program()),
    "at a directory that is not known": job(program(cwd=None)),
    "by the Python API": job(program(options=None, words=None)),
    "in a job that nobody watched": job(is_watched=False),
    "among those that are not recorded": job(left_out=3),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_log_that_two_programs_can_have_written_belongs_to_neither(other: ObservedJob) -> None:
    jobs = {"a": job(program()), "b": other}
    assert known_by(jobs, log()) == {}
    assert results(jobs, [log()])["a"].unverified == o.NOT_TOLD_APART


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_a_program_that_names_the_task_has_no_stronger_claim_than_one_that_may_run_any(other: ObservedJob) -> None:
    jobs = {"a": job(program(words=("t.py@one",))), "b": other}
    assert known_by(jobs, log(task="one")) == {}


def test_programs_on_a_node_without_a_witness_are_unknown() -> None:
    jobs = {"a": job(nodes_unseen=1, names_framework=True), "b": job(nodes_unseen=1)}
    assert [found.unverified for found in results(jobs, []).values()] == [o.NOT_ALL_NODES_SEEN, None]
    on_the_first = replace(jobs["a"], programs=[program(wrote=wrote("/w/logs/a.eval"))])
    assert results({"a": on_the_first}, [log()])["a"].unverified is None
    nobodys = results({"a": on_the_first}, [log(), log("b.eval", at=2)])["a"]
    assert (nobodys.logs, nobodys.unverified) == ({"/w/logs/a.eval": "process"}, o.NOT_ALL_NODES_SEEN)
    anothers = {"a": on_the_first, "b": job(program(0, wrote=wrote("/w/logs/b.eval")))}
    assert results(anothers, [log(), log("b.eval", at=2)])["a"].unverified is None


def test_lm_eval_jobs_that_share_a_directory_are_distinguished_by_their_tasks() -> None:
    found = log("/w/res/m/r.json", 30, kind=LM_EVAL, task="a")
    named, another = lm_eval(tasks=["a"], output_path=["res"]), lm_eval(tasks=["b"], output_path=["res"])
    assert known_by({"a": job(named), "b": job(another)}, found) == {"r.json": ("a", "place")}
    by_api = replaced(another, options=None)
    by_settings = replaced(another, options={"config": ("c.yaml",)})
    for other in (by_api, by_settings, replaced(another, options={"output_path": ("res",)})):
        assert known_by({"a": job(named), "b": job(other)}, found) == {}
    assert known_by({"a": job(another)}, found) == {"r.json": ("a", "place")}  # a tag's name


def test_a_program_that_logs_to_a_url_did_not_write_the_log_named_in_the_output() -> None:
    jobs = {"a": job(program(options={"log-dir": ["s3://b"]}), printed=("/w/logs/a.eval",))}
    found = results(jobs, [log()])["a"]
    assert (found.logs, found.unverified) == ({"/w/logs/a.eval": "output"}, o.AT_A_URL)


def test_a_programs_arguments_identify_its_log() -> None:
    a, b = program(options={"model": ["x/m"]}), program(options={"model": ["y/m"]})
    jobs = {"a": job(a), "b": job(b)}
    assert known_by(jobs, log(model="y/m")) == {"a.eval": ("b", "place")}
    jobs = {"a": job(program(words=("t.py@one",))), "b": job(program(words=("t.py@two",)))}
    assert known_by(jobs, log(task="one")) == {"a.eval": ("a", "place")}


def test_a_program_known_to_have_written_other_logs_did_not_write_this_one() -> None:
    jobs = {"a": job(program(wrote=wrote("/w/logs/b.eval"))), "b": job(program())}
    assert known_by(jobs, log("a.eval"), log("b.eval")) == {"a.eval": ("b", "place"), "b.eval": ("a", "process")}


def test_lm_eval_jobs_that_share_a_directory_are_distinguished_by_their_model_arguments() -> None:
    def one(model: str) -> ObservedJob:
        return job(lm_eval(tasks=["alpha"], output_path=["res"], model_args=[f"pretrained={model}", "..."]))

    def its_log(model: str) -> EvalLog:
        return log(f"/w/res/{model}/r.json", 30, kind=LM_EVAL, task="alpha", model_args={"x": 1, "pretrained": model})

    jobs = {"a": one("A"), "b": one("B")}
    owned, _ = owners(jobs, [its_log("A"), its_log("B")])
    assert {path: owner.job for path, owner in owned.items()} == {"/w/res/A/r.json": "a", "/w/res/B/r.json": "b"}


def test_an_lm_eval_without_an_output_directory_writes_no_log_and_claims_none() -> None:
    jobs = {"a": job(lm_eval(tasks=["a"], output_path=["res"])), "b": job(lm_eval(tasks=["a"]))}
    found = log("/w/res/m/r.json", 30, kind=LM_EVAL, task="a")
    assert known_by(jobs, found) == {"r.json": ("a", "place")}


WHY = {
    "in memory": (program(options={"log-dir": ["memory://b/logs"]}), o.IN_MEMORY),
    "at a URL": (program(wrote=wrote("s3://b/a.eval")), o.AT_A_URL),
    "gone": (program(wrote=wrote("/w/logs/a.eval")), o.GONE),
    "in a container": (program(wrote=(Written(name="a.eval"),)), o.NOT_READABLE_HERE),
    "by choice": (lm_eval(tasks=["a"]), o.NOT_WRITTEN),
    "in a settings file": (lm_eval(config=["c.yaml"]), o.PLACE_UNKNOWN),
    "from a directory that is not known": (program(cwd=None), o.PLACE_UNKNOWN),
    "missing": (program(), None),
    "missing at lm_eval's": (lm_eval(output_path=["res"]), None),
}


@pytest.mark.parametrize(("seen", "why"), WHY.values(), ids=WHY)
def test_a_program_without_a_log_left_none_or_the_reason_why_it_is_unknown_is_given(
    seen: ObservedProgram, why: str | None
) -> None:
    found = results({"a": job(seen)}, [])["a"]
    assert found.unverified == why
    assert found.without_log == ([] if why else [0])


def test_a_part_of_the_logs_is_not_the_whole_result() -> None:
    both = program(wrote=(*wrote("/w/logs/a.eval"), *wrote("/w/logs/b.eval")))
    left = {"/w/logs/a.eval": "process"}
    for seen, logs, why in [
        (both, [log("a.eval")], "no time"),
        (both, [log("a.eval"), log("b.eval")], None),
        (program(wrote=(*wrote("/w/logs/a.eval"), *wrote("s3://b/b.eval"))), [log("a.eval")], o.AT_A_URL),
    ]:
        assert results({"a": job(seen, not_all_read="no time")}, logs)["a"].unverified == why
    assert results({"a": job(both)}, [log("a.eval")])["a"] == o.JobResults(left, o.GONE)
    at_a_place = results({"a": job(program(), not_all_read="no time")}, [log("a.eval")])["a"]
    assert at_a_place == o.JobResults({"/w/logs/a.eval": "place"}, "no time")
    printed = job(printed=("/w/logs/a.eval",), is_watched=False, not_all_read="no time")
    assert results({"a": printed}, [log("a.eval")])["a"] == o.JobResults({"/w/logs/a.eval": "output"}, "no time")
    unread = job(program(wrote=wrote("/w/logs/a.eval")), not_all_read="no time")
    assert results({"a": unread}, [])["a"] == o.JobResults(unverified="no time")
    assert results({"a": job(not_all_read="no time")}, [])["a"] == o.JobResults()


FIRST, SECOND, AGAIN = "2026-01-01T10-00_t_aB1.eval", "2026-01-01T10-00_u_cD2.eval", "2026-01-01T11-00_t_aB1.eval"


@pytest.mark.parametrize(
    ("names", "found", "why"),
    [
        ((FIRST, SECOND), (FIRST, SECOND), None),
        ((FIRST, SECOND), (SECOND,), o.GONE),
        ((FIRST, SECOND, AGAIN), (SECOND, AGAIN), None),  # an eval-set tried a task again, and deleted its first log
        ((FIRST, SECOND, AGAIN), (AGAIN,), o.GONE),
    ],
)
def test_all_logs_of_a_program_must_be_found(names: tuple[str, ...], found: tuple[str, ...], why: str | None) -> None:
    seen = program(verb=None, wrote=tuple(written for name in names for written in wrote(f"/w/logs/{name}")))
    assert results({"a": job(seen)}, [log(name) for name in found])["a"].unverified == why


def test_a_log_without_a_path_is_found_by_its_name() -> None:
    held = tuple(Written(name=name, directory_sha256="0" * 64, known_by=("name",)) for name in (FIRST, SECOND))
    assert results({"a": job(program(wrote=held))}, [log(FIRST), log(SECOND)])["a"].unverified is None
    assert results({"a": job(program(wrote=held))}, [log(FIRST)])["a"].unverified == o.NOT_READABLE_HERE


def test_an_eval_set_whose_tasks_were_complete_need_not_write_a_log() -> None:
    again = program(60, 70, verb="eval-set")
    jobs = {"a": job(program(verb="eval-set", wrote=wrote("/w/logs/a.eval")), again)}
    assert results(jobs, [log()])["a"] == o.JobResults({"/w/logs/a.eval": "process"})
    assert results({"a": job(again)}, [])["a"].without_log == [0]


def test_the_last_attempt_of_an_eval_counts_and_the_copy_changed_last() -> None:
    names = ("first", "again", "scored", "other")
    seen = job(program(wrote=tuple(Written(name=n, path=f"/w/logs/{n}.eval") for n in names)))
    logs = [
        log("first.eval", 20, task_id="t", eval_id="1"),
        log("again.eval", 30, task_id="t", eval_id="2"),
        log("scored.eval", 30, task_id="t", eval_id="2", changed_at=49),
        log("other.eval", 20, task_id="u", eval_id="3"),
    ]
    assert sorted(results({"a": seen}, logs)["a"].logs) == ["/w/logs/other.eval", "/w/logs/scored.eval"]


def test_a_script_that_names_a_framework_proves_nothing() -> None:
    watched, unwatched = job(names_framework=True), job(names_framework=True, is_watched=False)
    assert results({"a": watched}, [log()])["a"] == o.JobResults()
    assert results({"a": unwatched}, [log()])["a"] == o.JobResults(unverified=o.NOBODY_SAW)


TIMES = st.integers(0, 60).map(float)


@st.composite
def experiments(draw: st.DrawFn) -> tuple[dict[str, ObservedJob], list[EvalLog], dict[str, str]]:
    """Jobs whose programs write logs into few directories, with partial evidence; and each log's true owner."""
    jobs: dict[str, ObservedJob] = {}
    logs: list[EvalLog] = []
    truth: dict[str, str] = {}
    for name in draw(st.sampled_from(["a", "ab", "abc", "abcd"])):
        programs: list[ObservedProgram] = []
        printed: list[str] = []
        is_watched = draw(st.booleans())
        for _ in range(draw(st.integers(0, 2))):
            start, model = draw(TIMES), draw(st.sampled_from(["m", "n"]))
            end = start + 5 + draw(TIMES)
            cwd = draw(st.sampled_from(["/v", "/w"]))
            own = []
            for _ in range(draw(st.integers(0, 2))):
                path = f"{cwd}/logs/{len(truth)}.eval"
                truth[path] = name
                created = float(draw(st.integers(int(start), int(end))))
                logs.append(log(path, created, changed_at=end, model=model))
                own.append(path)
                if draw(st.booleans()):
                    printed.append(path)
            if not is_watched:
                continue
            is_seen_writing, knows = draw(st.booleans()), draw(st.booleans())
            seen = program(start, end, cwd=cwd if knows else None, options={"model": [model]} if knows else None)
            held = tuple(
                Written(name=p, path=p, known_by=draw(st.sampled_from([("line",), ("line", "name")])))
                for p in own
                if is_seen_writing
            )
            programs.append(replaced(seen, wrote=held))
        jobs[name] = job(*programs, until=200, printed=tuple(printed), is_watched=is_watched, names_framework=True)
    return jobs, logs, truth


@given(experiments())
def test_no_log_is_ever_attributed_to_another_job(
    experiment: tuple[dict[str, ObservedJob], list[EvalLog], dict[str, str]],
) -> None:
    jobs, logs, truth = experiment
    found = results(jobs, logs)
    claimed = [(path, name) for name, each in found.items() for path in each.logs]
    assert len(claimed) == len({path for path, _ in claimed})
    assert all(truth[path] == name for path, name in claimed)


@given(experiments())
def test_without_a_process_or_an_output_line_no_log_is_owned(
    experiment: tuple[dict[str, ObservedJob], list[EvalLog], dict[str, str]],
) -> None:
    jobs, logs, _ = experiment
    by_text = {name: replace(each, programs=(), printed=(), is_watched=False) for name, each in jobs.items()}
    for each in results(by_text, logs).values():
        assert (each.logs, each.unverified) == ({}, o.NOBODY_SAW)


@given(experiments())
def test_the_order_of_the_evidence_does_not_matter(
    experiment: tuple[dict[str, ObservedJob], list[EvalLog], dict[str, str]],
) -> None:
    jobs, logs, _ = experiment
    assert owners(jobs, logs) == owners(dict(reversed(jobs.items())), logs[::-1])
