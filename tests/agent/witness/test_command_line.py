"""Tests which command lines run an eval, and that nothing that may be secret is recorded of them."""

from __future__ import annotations

import json
import string
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.agent.witness.command_line import LEFT_OUT, parse
from evalmon_agent.evidence.kinds import KINDS
from evalmon_agent.words.eval_processes import WATCHED_PROGRAMS


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("inspect eval t.py", "inspect-ai"),
        ("/env/bin/python3 /env/bin/inspect eval-set t.py", "inspect-ai"),
        ("python3.12 -u -X dev -m inspect_ai eval t.py", "inspect-ai"),
        ("python -m inspect_ai._cli.main eval-retry logs/a.eval", "inspect-ai"),
        ("/env/bin/python /env/bin/lm_eval --model dummy --tasks alpha", "lm-evaluation-harness"),
        ("python -X dev -W ignore -um inspect_ai._cli.main eval t.py@a", "inspect-ai"),
        ("python -Wignore --check-hash-based-pycs always -minspect_ai eval t.py@a", "inspect-ai"),
        ("python -mlm_eval run --tasks alpha", "lm-evaluation-harness"),
        ("pypy3 -I -m lm_eval --tasks alpha", "lm-evaluation-harness"),
        ("/env/bin/python /env/bin/lm-eval run --config c.yaml", "lm-evaluation-harness"),
    ],
)
def test_these_command_lines_start_an_eval(line: str, kind: str) -> None:
    found = parse(line.split())
    assert found is not None
    assert found.begins_eval
    assert found.program.kind == kind


@pytest.mark.parametrize(
    "line",
    [
        "inspect view",
        "inspect",
        "inspect eval --help",
        "inspect --version",
        "python /env/bin/inspect score logs/a.eval",
        "python /env/bin/inspect list tasks",
        "python -m inspect_ai log list",
        "lm_eval ls tasks",
        "lm_eval --tasks list",
        "lm_eval validate --tasks alpha",
        "python -m lm_eval -h",
    ],
)
def test_these_command_lines_of_the_program_start_no_eval(line: str) -> None:
    found = parse(line.split())
    assert found is not None
    assert not found.begins_eval


@pytest.mark.parametrize(
    "line",
    [
        "grep inspect eval",
        "vim inspect",
        "bash -c inspect eval t.py",
        "srun --ntasks=1 inspect eval t.py",
        "timeout 5 inspect eval t.py",
        "accelerate launch -m lm_eval --tasks alpha",
        "python train.py inspect eval",
        "python -c inspect eval",
        "python -m pytest inspect_ai eval",
        "python",
        "python -m",
        "python -",
        "python - eval",
        "python inspect.py eval",
        "python -Ic inspect eval",
        "",
    ],
)
def test_these_command_lines_are_other_programs(line: str) -> None:
    assert parse(line.split(" ")) is None


def test_only_the_listed_options_of_an_inspect_eval_are_recorded() -> None:
    line = "inspect eval a.py@x --limit 3 -T n=2 b.py@y --model=openai/m --no-score c.py@z --log-dir ./logs"
    found = parse(line.split())
    assert found is not None
    assert found.words == ("a.py@x", "b.py@y", "c.py@z")
    assert found.options == {"limit": ["3"], "model": ["openai/m"], "log-dir": ["./logs"]}


def test_only_the_listed_keys_of_model_arguments_are_recorded_joined_or_not() -> None:
    found = parse(["inspect", "eval", "a.py", "-M", "model_path=/m", "-Mdtype=auto", "-M", "device=sesame"])
    assert found is not None
    assert (found.words, found.options) == (("a.py",), {"model-arg": ["model_path=/m", "dtype=auto", LEFT_OUT]})


def test_after_an_unknown_option_the_task_is_uncertain() -> None:
    found = parse(["inspect", "eval", "--new-option", "a.py@x"])
    assert found is not None
    assert found.words is None


def test_only_the_listed_keys_of_lm_evals_model_arguments_are_recorded() -> None:
    line = "lm_eval run --tasks a b,c --model_args pretrained=m,api_key=sesame base_url=http://u:sesame@h/ -o out -L 5"
    found = parse(line.split())
    assert found is not None
    expected = {"tasks": ["a", "b,c"], "output_path": ["out"], "limit": ["5"]}
    assert found.options == {"model_args": ["pretrained=m", LEFT_OUT, LEFT_OUT], **expected}


@pytest.mark.survives("S11")
@pytest.mark.parametrize(
    "line",
    [
        "inspect eval t.py -M api_key=sesame",
        "inspect eval t.py --env OPENAI_API_KEY=sesame",
        "inspect eval --api-key sesame t.py",
        "inspect eval t.py --model-base-url https://user:sesame@host/",
        "inspect eval t.py --log-dir https://user:sesame@host/logs",
        "inspect eval t.py --unknown=sesame",
        "inspect eval t.py -Msesame",
        "lm_eval --tasks a --model_args api_key=sesame",
        'lm_eval --tasks a --model_args {"pretrained":"sesame"}',
        "lm_eval --tasks a --wandb_args key=sesame sesame",
        "lm_eval --tasks a --hf_hub_log_args token=sesame",
        "lm_eval --tasks a --metadata sesame",
        "lm_eval sesame",
    ],
)
def test_a_secret_is_not_recorded(line: str) -> None:
    found = parse(line.split())
    assert found is not None
    assert "sesame" not in json.dumps([found.words, found.options, found.verb])


WORDS = st.sampled_from(
    ["python", "-m", "inspect_ai", "inspect", "eval", "lm_eval", "--model", "-M", "--tasks", "-", ""]
)


@given(st.lists(st.one_of(WORDS, st.text(max_size=20)), max_size=12))
def test_parsing_accepts_any_words(words: list[str]) -> None:
    found = parse(words)
    assert found is None or json.dumps(asdict(found)["options"])


@given(st.lists(st.one_of(WORDS, st.just("--api-key"), st.just("-T")), max_size=8), st.booleans())
def test_values_of_unlisted_options_are_never_recorded(before: list[str], is_lm_eval: bool) -> None:
    secret = string.ascii_letters
    begin = ["lm_eval", "--tasks", "a"] if is_lm_eval else ["inspect", "eval", "t.py"]
    found = parse([*begin, *before, "--secret", secret])
    assert found is not None
    assert secret not in json.dumps([found.words, found.options])


def test_every_watched_program_has_a_kind_of_eval() -> None:
    assert {kind.name for kind in KINDS} == {program.kind for program in WATCHED_PROGRAMS}
