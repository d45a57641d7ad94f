"""Tests the diagnosis with real excerpts of each cause (tests/evidence/excerpts/CAUSE--what.txt), and harmless ones.

A first line `#! state=TIMEOUT exit=1 signal=9 result=error done=1 total=2 error=with_underscores expects` gives the
other facts of the attempt; without it, Slurm's state is FAILED with exit status 1.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence.diagnosis.causes import CAUSES, REFUSED, UNKNOWN, Diagnosis
from evalmon_agent.evidence.diagnosis.diagnose import AttemptEnd, UnopenedFile, diagnose, ends_in_error
from evalmon_agent.evidence.diagnosis.wordings import RULES
from evalmon_agent.evidence.result import EvalResult
from evalmon_agent.words.states import State

FOLDER = Path(__file__).with_name("excerpts")
ALL = sorted(path.stem for path in FOLDER.glob("*.txt"))
HARMLESS = [name for name in ALL if name.startswith("harmless--")]
FAILURES = [name for name in ALL if name not in HARMLESS]


def end_of_attempt(name: str) -> AttemptEnd:
    text = (FOLDER / f"{name}.txt").read_text()
    head, _, rest = text.partition("\n")
    words = head.removeprefix("#! ").split() if head.startswith("#! ") else []
    known = dict(word.partition("=")[::2] for word in words)
    state = State(known.get("state", "FAILED"))
    ends_itself = state in {State.FAILED, State.COMPLETED}
    result = None
    if "result" in known:
        result = EvalResult(
            status=known["result"],
            samples_completed=int(known["done"]) if "done" in known else None,
            samples_total=int(known["total"]) if "total" in known else None,
            error=known["error"].replace("_", " ") if "error" in known else None,
        )
    default = 1 if ends_itself and "signal" not in known else None
    return AttemptEnd(
        state=state,
        exit_code=int(known["exit"]) if "exit" in known else default,
        signal=int(known["signal"]) if "signal" in known else None,
        elapsed_s=61.0,
        time_limit_s=60.0,
        output=rest if words else text,
        result=result,
        expects_log="expects" in known,
    )


def found(name: str) -> Diagnosis:
    diagnosis = diagnose(end_of_attempt(name))
    assert diagnosis is not None
    return diagnosis


@pytest.mark.parametrize("name", FAILURES)
def test_the_cause_is_found(name: str) -> None:
    expected = name.partition("--")[0]
    diagnosis = found(name)
    assert diagnosis.cause == expected, diagnosis
    assert diagnosis.evidence
    assert diagnosis.advice
    assert "{" not in diagnosis.advice


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_text_is_no_cause(name: str) -> None:
    diagnosis = diagnose(AttemptEnd(state=State.FAILED, exit_code=1, output=end_of_attempt(name).output))
    assert diagnosis is not None
    assert diagnosis.cause == UNKNOWN, diagnosis


SUCCESS = EvalResult(status="success", samples_completed=1, samples_total=1)


@pytest.mark.parametrize("name", ALL)
def test_a_successful_eval_is_not_diagnosed_whatever_it_printed_before_its_end(name: str) -> None:
    output = end_of_attempt(name).output + "".join(f"\nstep {number}" for number in range(4))
    assert not ends_in_error(output)
    assert diagnose(AttemptEnd(state=State.COMPLETED, exit_code=0, output=output)) is None
    assert diagnose(AttemptEnd(state=State.COMPLETED, output=output, result=SUCCESS)) is None


@pytest.mark.parametrize("name", HARMLESS)
def test_no_harmless_text_counts_as_ending_in_an_error(name: str) -> None:
    assert not ends_in_error(end_of_attempt(name).output)


TRACEBACK = """Traceback (most recent call last):
  File "/exp/ev.py", line 1, in <module>
    raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB
"""


@pytest.mark.parametrize("result", [None, SUCCESS])
@pytest.mark.parametrize("rest", ["", "\n\n", "rc 1\nThu Nov 26\n"])
def test_an_unhandled_error_at_the_end_is_diagnosed_although_the_job_completed(
    rest: str, result: EvalResult | None
) -> None:
    output = f"loading\n{TRACEBACK}{rest}"
    assert ends_in_error(output)
    diagnosis = diagnose(AttemptEnd(state=State.COMPLETED, exit_code=0, output=output, result=result))
    assert diagnosis is not None
    assert diagnosis.cause == "cuda-out-of-memory"


@pytest.mark.parametrize(
    "output",
    [
        f"Exception ignored in: <function Engine.__del__ at 0x7f>\n{TRACEBACK}",
        f"ERROR:asyncio:Task exception was never retrieved\n{TRACEBACK}",
        f"--- Logging error ---\n{TRACEBACK}",
        f"{TRACEBACK}falling back to the CPU\n",
        f"{TRACEBACK}accuracy: 0.5\n",
        "RuntimeError: in prose\n",
    ],
)
def test_an_error_after_which_the_program_continued_is_no_end(output: str) -> None:
    assert not ends_in_error(output)


def test_there_are_enough_excerpts_of_both_kinds() -> None:
    assert len(FAILURES) >= 40
    assert len(HARMLESS) >= 20


def test_every_cause_has_an_excerpt_and_every_rule_a_cause() -> None:
    shown = {name.partition("--")[0] for name in FAILURES}
    rare = {"revoked", "lost", "hub-authentication", "aborted", "terminated", "unknown", "output-directory-missing"}
    assert set(CAUSES) - shown == rare | {REFUSED}
    assert {rule.cause for rule in RULES} <= set(CAUSES)


@pytest.mark.parametrize("name", FAILURES)
def test_the_evidence_is_a_line_of_the_output_or_a_known_fact(name: str) -> None:
    case, diagnosis = end_of_attempt(name), found(name)
    assert diagnosis.evidence is not None
    begin = re.sub(r"sk-proj-\S*| \(\w+\.py:\d+ in \w+\)$", "", diagnosis.evidence)[:40].strip()
    said = re.match(r"Slurm says|ended by signal|exit status|its log says|a program began", diagnosis.evidence)
    in_error = case.result is not None and case.result.error and diagnosis.evidence in case.result.error
    assert said or in_error or begin in case.output


SLURMS_OWN = re.compile(r".*error: (?:\*\*\* |Detected \d+ oom|execve)")


@pytest.mark.parametrize(
    "name", [name for name in FAILURES if "deadline" not in name and SLURMS_OWN.search(end_of_attempt(name).output)]
)
def test_the_line_in_which_slurm_gives_the_reason_is_the_evidence(name: str) -> None:
    assert SLURMS_OWN.match(found(name).evidence or ""), found(name)


@pytest.mark.parametrize(
    ("unopened", "cause", "evidence"),
    [
        (
            UnopenedFile("output", "/x/logs", "No such file or directory"),
            "output-directory-missing",
            "Slurm could not open the job's output (0:53): /x/logs: No such file or directory",
        ),
        (
            UnopenedFile("output", "/x/logs"),
            "output-directory-missing",
            "Slurm could not open the job's output (0:53): /x/logs: in order here; do the compute nodes see it?",
        ),
        (UnopenedFile(), "output-directory-missing", "Slurm could not open the job's output (0:53)"),
        (
            UnopenedFile("input", "/x/in", "cannot be read here"),
            "missing-file",
            "Slurm could not open the job's input (0:53): /x/in: cannot be read here",
        ),
    ],
)
def test_a_job_that_slurm_could_not_start_names_the_file(unopened: UnopenedFile, cause: str, evidence: str) -> None:
    diagnosis = diagnose(AttemptEnd(state=State.FAILED, signal=53, unopened=unopened))
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.evidence) == (cause, evidence)


def test_a_python_error_has_its_source_line() -> None:
    assert found("python-error--assertion").evidence == "AssertionError: 1.2 (tasks.py:44 in score)"


def test_a_missing_module_is_named_in_the_advice() -> None:
    assert str(found("missing-module--torch-of-lm-eval").advice).startswith("Install torch in the eval's environment")


def test_secrets_in_the_evidence_are_masked() -> None:
    evidence = found("api-authentication--openai").evidence
    assert evidence is not None
    assert "sk-proj-***" in evidence
    unknown = diagnose(AttemptEnd(state=State.FAILED, exit_code=1, output="+ export HF_TOKEN=hf_abcdefgh12345678\n"))
    assert unknown is not None
    assert unknown.evidence == "+ export HF_TOKEN=hf_***"


def test_an_unknown_cause_shows_the_last_lines() -> None:
    diagnosis = diagnose(AttemptEnd(state=State.FAILED, exit_code=3, output="a\nb\n\nc\n  d\n\n"))
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.evidence) == (UNKNOWN, "b\nc\nd")
    silent = diagnose(AttemptEnd(state=State.FAILED, exit_code=3))
    assert silent is not None
    assert silent.evidence == "exit status 3"


def test_the_user_who_cancelled_is_named() -> None:
    case = AttemptEnd(state=State.CANCELLED, cancelled_by="user 1001")
    diagnosis = diagnose(case)
    assert diagnosis is not None
    assert (diagnosis.cause, diagnosis.evidence) == ("cancelled", "Slurm says CANCELLED by user 1001")


def test_the_advised_time_limit_follows_from_the_pace_of_the_samples() -> None:
    so_far = EvalResult(status="started", samples_completed=3, samples_total=12)
    diagnosis = diagnose(AttemptEnd(state=State.TIMEOUT, elapsed_s=60.0, time_limit_s=60.0, result=so_far))
    assert diagnosis is not None
    assert diagnosis.advice == "Increase the eval's --time: 3 of 12 samples took 1m 0s; at this pace all take 4m 0s"


@pytest.mark.parametrize("state", [State.PENDING, State.RUNNING, State.SUSPENDED, State.REQUEUED, None])
def test_an_active_eval_is_not_diagnosed(state: State | None) -> None:
    assert diagnose(AttemptEnd(state=state, output=end_of_attempt(FAILURES[0]).output)) is None


@pytest.mark.parametrize("prefix", ["", "[rank3]: ", "3: ", "(Worker_TP1 pid=77) ", "\x1b[31m", "   0%|      | 0/3\r"])
def test_prefixes_that_launchers_print_hide_nothing(prefix: str) -> None:
    name = "cuda-out-of-memory--torch"
    text = "".join(f"{prefix}{line}\n" for line in end_of_attempt(name).output.splitlines())
    diagnosis = diagnose(AttemptEnd(state=State.FAILED, exit_code=1, output=text))
    assert diagnosis is not None
    assert diagnosis.cause == "cuda-out-of-memory"


@pytest.mark.parametrize("name", FAILURES)
def test_a_tail_that_begins_within_a_line_gives_the_same_cause(name: str) -> None:
    case = end_of_attempt(name)
    filler = "loading weights\n" * 300
    cut = AttemptEnd(
        state=case.state,
        exit_code=case.exit_code,
        signal=case.signal,
        elapsed_s=case.elapsed_s,
        time_limit_s=case.time_limit_s,
        output="ding weights\n" + filler + "\n" + case.output,
        result=case.result,
        expects_log=case.expects_log,
    )
    diagnosis = diagnose(cut)
    assert diagnosis is not None
    if name != "script-syntax--python" and not case.output.startswith("  File"):
        assert diagnosis.cause == name.partition("--")[0]


@pytest.mark.survives("S4")
@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=300))
def test_any_text_is_accepted(text: str) -> None:
    diagnosis = diagnose(
        AttemptEnd(state=State.FAILED, exit_code=1, output=f"Traceback (most recent call last):\n{text}")
    )
    assert diagnosis is not None


@pytest.mark.survives("S10")
@pytest.mark.parametrize(
    "line",
    [
        "x",
        "",
        "a" * 60_000,
        ": " * 30_000,
        ": line 1: " * 6000,
        "x: Permission denied",
        "Traceback (most recent call last):",
        '  File "a", line 1',
        "╭─ Traceback (most recent call last) ─╮",
        "  | " * 15_000,
        "Error: " * 9000,
        "api_key=" * 8000,
        "10%|" * 16_000,
        "slurmstepd: error: " * 3000,
    ],
)
def test_a_hostile_tail_takes_less_than_2_s(line: str) -> None:
    text = (f"{line}\n" * (1 + 65536 // (len(line) + 1)))[:65536]
    began = time.process_time()
    diagnose(AttemptEnd(state=State.FAILED, exit_code=1, output=text))
    assert time.process_time() - began < 2


LIB = "/home/me/envs/evals/lib/python3.11"
OWN_FRAME = '  File "/home/me/study/tasks.py", line 44, in score\n    scores = parse(text)\n'
LIBRARY_FRAMES = (
    f'  File "{LIB}/site-packages/inspect_ai/scorer/_scorer.py", line 9, in go\n    x()\n'
    f'  File "{LIB}/json/decoder.py", line 355, in raw_decode\n    raise JSONDecodeError()\n'
)
PROGRAM_FRAME = '  File "/home/me/envs/evals/bin/inspect", line 8, in <module>\n    sys.exit(main())\n'
BOX = """╭─ Traceback (most recent call last) ─╮
│ /home/me/study/tasks.py:44 in score │
│ /home/me/envs/evals/lib/python3.11/json/decoder.py:355 in raw_decode │
╰─────────────────────────────────────╯
KeyError: 'answer'
"""


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"{PROGRAM_FRAME}{OWN_FRAME}{LIBRARY_FRAMES}", "tasks.py:44 in score"),
        (f"{OWN_FRAME}{LIBRARY_FRAMES}{OWN_FRAME.replace('44', '50')}{LIBRARY_FRAMES}", "tasks.py:50 in score"),
        (f"{PROGRAM_FRAME}{LIBRARY_FRAMES}", "decoder.py:355 in raw_decode"),
        ('  File "<string>", line 1, in <module>\n  File "<frozen runpy>", line 9, in x\n', "<frozen runpy>:9 in x"),
        (f'  File "tasks.py", line 3, in f\n{LIBRARY_FRAMES}', "tasks.py:3 in f"),
    ],
)
def test_the_innermost_line_in_the_users_own_file_is_named(text: str, place: str) -> None:
    output = f"Traceback (most recent call last):\n{text}KeyError: 'answer'\n"
    diagnosis = diagnose(AttemptEnd(state=State.FAILED, exit_code=1, output=output))
    assert diagnosis is not None
    assert ("python-error", f"KeyError: 'answer' ({place})") == (diagnosis.cause, diagnosis.evidence)


def test_the_users_own_line_is_named_in_a_rich_traceback() -> None:
    diagnosis = diagnose(AttemptEnd(state=State.FAILED, exit_code=1, output=BOX))
    assert diagnosis is not None
    assert diagnosis.evidence == "KeyError: 'answer' (tasks.py:44 in score)"


def test_an_error_without_a_traceback_makes_no_completed_eval_suspect() -> None:
    assert not ends_in_error("loading\nOSError: [Errno 28] No space left on device\n")
