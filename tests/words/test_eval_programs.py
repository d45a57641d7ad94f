"""What a process is: an eval's program, with the options that go on record, or none."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.words.eval_programs import EvalCommand, eval_command


@pytest.mark.parametrize(
    "line",
    [
        "inspect eval t.py@a --model hf/x",
        "/venv/bin/python3.11 /venv/bin/inspect eval t.py@a --model hf/x",
        "python -u -m inspect_ai eval t.py@a --model=hf/x",
        "python -X dev -W ignore -um inspect_ai._cli.main eval t.py@a --model hf/x",
        "python -minspect_ai eval t.py@a --model hf/x",
        "python -Wignore -m inspect_ai eval --display plain --model hf/x t.py@a",
    ],
)
def test_the_ways_of_running_inspect(line: str) -> None:
    assert eval_command(shlex.split(line)) == EvalCommand("inspect-ai", "eval", ("t.py@a",), {"model": ("hf/x",)})


@pytest.mark.parametrize(
    "line",
    [
        "grep inspect eval",
        "vim inspect eval",
        "bash -c 'inspect eval t.py'",
        "timeout 5 inspect eval t.py",
        "srun inspect eval t.py",
        "python run.py",
        "python -c 'import inspect_ai' eval",
        "python inspect.py eval",
        "python - eval",
        "python",
        "python -m",
        "inspect",
        "inspect --version",
        "inspect eval --help",
        "inspect list tasks",
        "inspect view",
        "inspect score a.eval",
        "lm_eval --help",
        "lm_eval ls tasks",
        "lm_eval --tasks list",
        "lm_eval validate --tasks a",
        "accelerate launch -m lm_eval --model hf",
        "",
    ],
)
def test_what_begins_no_eval(line: str) -> None:
    assert eval_command(shlex.split(line)) is None


def test_arguments_of_task_and_model_are_recorded_but_no_secrets() -> None:
    line = "inspect eval-set a.py b.py -T epoch=3 -Tk=v -M path=/x -M api_key=1 -M max_tokens=5 --model x/token"
    found = eval_command(shlex.split(line))
    assert found == EvalCommand(
        "inspect-ai",
        "eval-set",
        ("a.py", "b.py"),
        {"task-arg": ("epoch=3", "k=v"), "model-arg": ("path=/x", "max_tokens=5"), "model": ("x/token",)},
    )


@pytest.mark.parametrize("value", ["pretrained=a,token=b", "hf_token=b", "base_url=https://a:b@c", "x=sk-0123456789"])
def test_what_looks_like_a_secret_is_left_out(value: str) -> None:
    found = eval_command(["lm_eval", "--model", "hf", "--model_args", value])
    assert found is not None
    assert dict(found.options) == {"model": ("hf",)}


@pytest.mark.parametrize("line", ["lm_eval", "lm-eval run", "python -m lm_eval", "python /v/bin/lm_eval run"])
def test_the_ways_of_running_lm_eval(line: str) -> None:
    found = eval_command(shlex.split(f"{line} -m hf -a pretrained=/m,dtype=auto --tasks a,b -o out --config c.yaml"))
    assert found is not None
    assert (found.kind, dict(found.options)) == (
        "lm-evaluation-harness",
        {
            "model": ("hf",),
            "model_args": ("pretrained=/m,dtype=auto",),
            "tasks": ("a,b",),
            "output_path": ("out",),
            "config": ("c.yaml",),
        },
    )


def test_a_log_to_continue_is_what_eval_retry_is_about() -> None:
    found = eval_command(["inspect", "eval-retry", "--log-dir", "/l", "/l/2026_a.eval"])
    assert found is not None
    assert (found.tasks, dict(found.options)) == (("/l/2026_a.eval",), {"log-dir": ("/l",)})


WORDS = st.sampled_from(
    ["inspect", "python", "-m", "inspect_ai", "lm_eval", "eval", "-u", "-T", "--model", "=", "", "-"]
)


@given(st.lists(WORDS | st.text(max_size=4), max_size=8))
def test_any_words_are_survived(words: list[str]) -> None:
    found = eval_command(words)
    assert found is None or found.kind in {"inspect-ai", "lm-evaluation-harness"}
