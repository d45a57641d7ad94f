"""The demo's evaluations: two small inspect-ai tasks, answered by a mock model, without GPU or network."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessage, Model, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match
from inspect_ai.solver import Generate, Solver, TaskState, generate, solver

WORDS = (
    "river",
    "copper",
    "lantern",
    "orchid",
    "meadow",
    "walnut",
    "harbor",
    "violet",
    "ember",
    "saddle",
    "oak",
    "tea",
)
SUMS = [(a, b) for a in (17, 23, 48, 61) for b in (5, 36, 77)]


@task
def capitalization(adapter: str, pace_s: float = 2.5, crash_at: int | None = None) -> Task:
    """Write a word in capital letters."""
    samples = [Sample(input=f"In capital letters: {word}", target=word.upper()) for word in WORDS]
    return _task(samples, adapter, pace_s, crash_at)


@task
def arithmetic(adapter: str, pace_s: float = 2.5, crash_at: int | None = None) -> Task:
    """Add two numbers."""
    samples = [Sample(input=f"What is {a} + {b}?", target=str(a + b)) for a, b in SUMS]
    return _task(samples, adapter, pace_s, crash_at)


def _task(samples: list[Sample], adapter: str, pace_s: float, crash_at: int | None) -> Task:
    answers = {str(sample.input): str(sample.target) for sample in samples}
    return Task(
        dataset=samples,
        solver=[thinks_for(pace_s), generate()],
        scorer=match(),
        model=_fine_tuned_model(Path(adapter), answers, crash_at),
    )


@solver
def thinks_for(pace_s: float) -> Solver:
    """The time that a real model would need."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:  # noqa: ARG001 (the protocol's)
        await anyio.sleep(pace_s)
        return state

    return solve


def _fine_tuned_model(adapter: Path, answers: dict[str, str], crash_at: int | None) -> Model:
    """A model that is right as often as the "training" of its adapter says.

    Raises:
        FileNotFoundError: the adapter is not there, as happens when a training run was cut short.
    """
    accuracy = json.loads((adapter / "adapter.json").read_text(encoding="utf-8"))["accuracy"]
    return get_model("mockllm/model", custom_outputs=_answering(answers, accuracy, crash_at), memoize=False)


def _answering(answers: dict[str, str], accuracy: float, crash_at: int | None) -> Callable[..., ModelOutput]:
    calls = 0

    def answer(messages: list[ChatMessage], *_others: Any) -> ModelOutput:
        nonlocal calls
        calls += 1
        if calls == crash_at:
            raise RuntimeError("CUDA error: an illegal memory access was encountered (simulated by the demo)")
        question = messages[-1].text
        knows = random.Random(question).random() < accuracy
        output = ModelOutput.from_content("mockllm/model", answers[question] if knows else "I don't know")
        # Without a usage inspect-ai would fetch a tokenizer to count the tokens.
        words_in, words_out = len(question.split()), len(output.completion.split())
        output.usage = ModelUsage(input_tokens=words_in, output_tokens=words_out, total_tokens=words_in + words_out)
        return output

    return answer
