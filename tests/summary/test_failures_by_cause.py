"""Tests the grouping by causes: one error is listed once, whatever paths, numbers and nodes it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from evalmon_agent.evidence.diagnosis.causes import CAUSES, Diagnosis
from evalmon_agent.evidence.diagnosis.diagnose import diagnose
from evalmon_agent.evidence.result import EvalResult, SampleError
from evalmon_agent.summary.failures import by_cause
from evalmon_agent.summary.records import CauseSummary, Cost, EvalSummary
from evalmon_agent.tracking.verdict import Verdict
from evalmon_agent.words.job_id import JobId
from evalmon_agent.words.states import State
from evidence.test_diagnosis import FAILURES, end_of_attempt

# Excerpts that show the same error; every other excerpt is an error of its own.
SAME = [
    {"cancelled--26-05", "cancelled--before-it-started", "cancelled--by-a-user", "cancelled--slurmd-with-a-name"},
    {"command-not-found--inspect", "command-not-found--slurm-says-completed"},
    {"cuda-out-of-memory--one-rank-of-two", "cuda-out-of-memory--vllm-engine-core"},
    {"host-out-of-memory--26-05", "host-out-of-memory--oom-kill"},
    {"disk-full--only-the-message", "disk-full--python"},
    {"node-failure--26-05-another-log-time-format", "node-failure--rebooted"},
    {"preempted--26-05-job-and-step", "preempted--by-a-better-qos"},
    {"time-limit--in-the-middle", "time-limit--of-a-step-26-05", "time-limit--with-alarming-words-before"},
]
CHANGES = [
    (r"/home/me/study/evalmon/scripts/5f3a", "/data/you/other/evalmon/scripts/{number}0c"),
    (r"/home/me\b", "/data/you{number}"),
    (r"/scratch/", "/lustre/scratch{number}/"),
    (r"/job771/", "/job{number}/"),
    (r"\bn(?:5|11)\b", "n{number}"),
    (r"\b(?:12345690|10009|10013|25\d\d\d)\b", "{number}"),
    (r"\b\d+(\.\d\d [GM]iB)", r"{number}\g<1>"),
    (r": line \d+:", ": line {number}:"),
    (r"(\.py:)\d+", r"\g<1>{number}"),
    (r"(pid[= ])\d+", r"\g<1>{number}"),
]


def failed(name: str, diagnosis: Diagnosis | None, *, state: State = State.FAILED, **more: object) -> EvalSummary:
    whole = {"verdict": "failed", "nodes": ["n1"], **more}
    return EvalSummary(name=name, job_id=JobId("1"), attempts=[], state=state, diagnosis=diagnosis, **whole)  # type: ignore[arg-type]


def of_excerpt(excerpt: str, number: int | None = None) -> EvalSummary:
    """An eval that failed as in the excerpt; `number`: elsewhere, with other numbers."""
    end = end_of_attempt(excerpt)
    diagnosis = diagnose(end)
    assert diagnosis is not None
    assert diagnosis.evidence is not None
    if number is not None:
        evidence = diagnosis.evidence
        for pattern, other in CHANGES:
            evidence = re.sub(pattern, other.replace("{number}", str(number)), evidence)
        diagnosis = Diagnosis(diagnosis.cause, evidence, diagnosis.advice)
    assert end.state is not None
    nodes = [f"n{number or 1}"]
    return failed(f"{excerpt}/{number or 0}", diagnosis, state=end.state, nodes=nodes)


def excerpts(cause: CauseSummary) -> set[str]:
    return {name.partition("/")[0] for name in cause.evals}


def test_different_errors_never_share_a_cause_and_equal_ones_always_do() -> None:
    found = [excerpts(cause) for cause in by_cause([of_excerpt(name) for name in FAILURES])]
    together = [names for names in found if len(names) > 1]
    assert sorted(map(sorted, SAME)) == sorted(map(sorted, together))
    assert sorted(FAILURES) == sorted(name for names in found for name in names)


def test_an_error_at_another_place_with_other_numbers_is_the_same() -> None:
    everywhere = [of_excerpt(name, number) for name in FAILURES for number in (None, 31, 4071)]
    found = by_cause(everywhere)
    assert len(by_cause([of_excerpt(name) for name in FAILURES])) == len(found)
    assert all(len(cause.evals) == 3 * len(excerpts(cause)) for cause in found)


def test_200_evals_that_fail_in_5_ways_have_5_causes() -> None:
    ways = [
        "missing-file--cd",
        "cuda-out-of-memory--torch",
        "python-error--assertion",
        "missing-module--torch-of-lm-eval",
        "segmentation-fault--bash",
    ]
    found = by_cause([of_excerpt(ways[number % 5], number) for number in range(200)])
    assert [40] * 5 == [len(cause.evals) for cause in found]
    assert sorted(way.partition("--")[0] for way in ways) == sorted(cause.cause for cause in found)


def apart(*lines: str, cause: str = "python-error") -> int:
    return len(by_cause([failed(f"r/{n}", Diagnosis(cause, line, None)) for n, line in enumerate(lines)]))


def test_errors_that_differ_in_substance_are_different_causes() -> None:
    assert 2 == apart("ModuleNotFoundError: No module named 'a'", "ModuleNotFoundError: No module named 'b'")
    assert 2 == apart("KeyError: 'a' (t.py:3 in f)", "IndexError: 'a' (t.py:3 in f)")
    assert 2 == apart("FileNotFoundError: '/x/config.json'", "FileNotFoundError: '/x/words.json'")
    assert 2 == apart("gated: meta-llama/Llama-3.1-8B", "gated: meta-llama/Llama-3.1-70B")
    assert 2 == apart("exit status 3", "exit status 4", cause="unknown")
    assert 2 == apart("one line\nand another", "one line\nand a third", cause="unknown")
    assert 1 == apart("FileNotFoundError: '/x/run1/adapter.bin'", "FileNotFoundError: '/x/run2/adapter.bin'")
    assert 1 == apart("RuntimeError: rank 3 of 8 on n1 at 0x7f00aa", "RuntimeError: rank 0 of 8 on n1 at 0x7f00bb")


def test_the_same_line_of_two_causes_gives_two_causes() -> None:
    pair = [failed(cause, Diagnosis(cause, "same line", None)) for cause in ("network", "hub-offline")]
    assert 2 == len(by_cause(pair))


def test_another_node_name_makes_no_other_cause() -> None:
    lines = {node: f"srun: error: {node}: tasks 0-2: Exited" for node in ("nid005475", "nid005476")}
    assert 1 == len(by_cause([failed(n, Diagnosis("unknown", line, None), nodes=[n]) for n, line in lines.items()]))


def costly() -> Iterator[EvalSummary]:
    for name, cause, hours in [
        ("a", "network", 0.5),
        ("b", "network", None),
        ("c", "killed", 2.0),
        ("d", "lost", None),
    ]:
        yield failed(name, Diagnosis(cause, "line", f"advice {name}"), cost=Cost(gpu_hours=hours, money=hours))


def test_the_most_costly_cause_comes_first_and_unknown_costs_are_left_out() -> None:
    found = by_cause(list(costly()))
    assert [("killed", ["c"], 2.0), ("network", ["a", "b"], 0.5), ("lost", ["d"], None)] == [
        (cause.cause, cause.evals, cause.gpu_hours) for cause in found
    ]
    assert [2.0, 0.5, None] == [cause.money for cause in found]


def test_without_costs_the_cause_of_most_evals_comes_first() -> None:
    causes = ["network", "killed", "killed", "lost"]
    found = by_cause([failed(str(n), Diagnosis(cause, "line", None)) for n, cause in enumerate(causes)])
    assert ["killed", "network", "lost"] == [cause.cause for cause in found]


def test_advice_with_one_evals_figures_is_not_given_for_all() -> None:
    own = [Diagnosis("time-limit", "line", f"Increase the eval's --time: {n} of 12 samples took 1h") for n in (3, 3, 5)]
    evals = [failed(str(n), diagnosis, state=State.TIMEOUT) for n, diagnosis in enumerate(own)]
    assert [own[0].advice] == [cause.advice for cause in by_cause(evals[:2])]
    assert ["Increase the eval's --time (evalmon retry does)"] == [cause.advice for cause in by_cause(evals)]


def test_an_unmeasured_failure_is_listed_with_slurms_state() -> None:
    states = [State.TIMEOUT, State.FAILED, State.TIMEOUT]
    found = by_cause([failed(str(n), None, state=state) for n, state in enumerate(states)])
    assert [("time-limit", 2), ("unknown", 1)] == [(cause.cause, len(cause.evals)) for cause in found]


def test_only_unsuccessful_evals_have_a_cause() -> None:
    diagnosis = Diagnosis("network", "line", None)
    verdicts: list[Verdict] = ["ok", "active", "unverified", "dropped", "failed", "suspect", "refused"]
    found = by_cause([failed(verdict, diagnosis, verdict=verdict) for verdict in verdicts])
    assert [["failed", "suspect", "refused"]] == [cause.evals for cause in found]


def sampled(name: str, *errors: SampleError, total: int = 10, **more: object) -> EvalSummary:
    result = EvalResult(status="success", samples_total=total, sample_errors=list(errors))
    return failed(name, **{"diagnosis": None, "results": [result], "cost": Cost(gpu_hours=2.0, money=6.0), **more})  # type: ignore[arg-type]


RATE = SampleError("api-rate-limit", "RateLimitError: Error code: 429", 3)
ODD = SampleError(None, "KeyError: answer", 1)


def test_failed_samples_have_causes_with_their_share_of_the_costs() -> None:
    evals = [sampled("a", RATE, ODD, verdict="ok"), sampled("b", RATE, total=5, verdict="ok")]
    found = by_cause(evals)
    assert [("api-rate-limit", ["a", "b"], 6, 1.8, 5.4), ("python-error", ["a"], 1, 0.2, 0.6)] == [
        (cause.cause, cause.evals, cause.samples, cause.gpu_hours, cause.money) for cause in found
    ]
    assert [RATE.error, ODD.error] == [cause.evidence for cause in found]
    assert all(cause.advice for cause in found)


def test_an_eval_suspect_for_failed_samples_is_listed_by_their_causes() -> None:
    unfinished = Diagnosis("unfinished-samples", "4 of 10 samples failed: 3 api-rate-limit", "advice")
    found = by_cause([sampled("a", RATE, ODD, verdict="suspect", diagnosis=unfinished)])
    assert ["api-rate-limit", "python-error"] == [cause.cause for cause in found]
    unknown = by_cause([sampled("a", verdict="suspect", diagnosis=unfinished)])
    assert [("unfinished-samples", 0, 2.0)] == [(cause.cause, cause.samples, cause.gpu_hours) for cause in unknown]


def test_the_sample_that_made_an_eval_fail_is_not_a_second_cause() -> None:
    own = Diagnosis("python-error", "KeyError: 'answer' (tasks.py:31 in score)", "advice")
    found = by_cause([sampled("a", ODD, RATE, diagnosis=own)])
    assert [("python-error", 1, 2.0), ("api-rate-limit", 3, None)] == [
        (cause.cause, cause.samples, cause.gpu_hours) for cause in found
    ]


def test_the_error_of_an_evals_log_and_the_same_of_its_samples_are_one_cause() -> None:
    own = Diagnosis("gpu-lost", "RuntimeError('CUDA error: unknown error\\nCUDA kernel errors')", "advice")
    samples = SampleError("gpu-lost", "RuntimeError: CUDA error: unknown error CUDA kernel errors", 1)
    found = by_cause([sampled("a", samples, diagnosis=own)])
    assert [("gpu-lost", ["a"], 1, 2.0)] == [(c.cause, c.evals, c.samples, c.gpu_hours) for c in found]


def test_the_first_line_of_an_error_and_its_full_text_are_one_cause() -> None:
    own = Diagnosis("python-error", "RuntimeError: CUDA error (t.py:31 in f)", "advice")
    for error, causes in (("RuntimeError: CUDA error For debugging", 1), ("RuntimeError: CUDA errors", 2)):
        assert causes == len(by_cause([sampled("a", SampleError(None, error, 1), diagnosis=own)]))


def test_every_cause_of_a_sample_has_advice_without_blanks_to_fill_in() -> None:
    evals = [sampled(cause, SampleError(cause, "error", 1), verdict="ok") for cause in CAUSES]
    assert not [cause for cause in by_cause(evals) if "{" in str(cause.advice)]


def test_failed_samples_of_a_running_eval_do_not_count_yet() -> None:
    assert [] == by_cause([sampled("a", RATE, verdict="active"), sampled("b", RATE, verdict="dropped")])


def test_two_gated_models_are_two_causes() -> None:
    end = end_of_attempt("hub-gated--llama")
    outputs = [end.output, end.output.replace("Llama-3.1-8B-Instruct", "Llama-3.1-70B-Instruct")]
    evals = [failed(str(n), diagnose(replace(end, output=output))) for n, output in enumerate(outputs)]
    assert ["hub-gated"] * 2 == [cause.cause for cause in by_cause(evals)]
