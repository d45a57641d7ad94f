"""Defines an inspect-ai task whose log names the job that ran it, and that ends in a given way."""

from __future__ import annotations

import os
import random
import subprocess
import time
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessage, Model, ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import match

SAMPLES = 12
OWNER = "owner"


@task
def owned(end: str = "good") -> Task:
    """Each job answers some of its questions correctly. `end`: good, raises, vanishes, or cancels (the job)."""
    job_id = os.environ["SLURM_JOB_ID"]
    return Task(
        dataset=[Sample(input=f"say {number}", target=f"{number}") for number in range(SAMPLES)],
        scorer=match(),
        model=_model(job_id, end),
        metadata={OWNER: job_id},
    )


def _model(job_id: str, end: str) -> Model:
    chance = random.Random(job_id)
    ends_at = chance.randint(2, SAMPLES)
    calls = 0

    def answer(messages: list[ChatMessage], *_others: Any) -> ModelOutput:
        nonlocal calls
        calls += 1
        time.sleep(chance.random() / 5)
        if calls == ends_at:
            _end(end, job_id)
        number = messages[-1].text.split()[-1]
        output = ModelOutput.from_content("mockllm/model", number if chance.random() < 0.6 else "I don't know")
        # Without a usage inspect-ai would fetch a tokenizer to count the tokens.
        output.usage = ModelUsage(input_tokens=2, output_tokens=1, total_tokens=3)
        return output

    return get_model("mockllm/model", custom_outputs=answer, memoize=False)


def _end(end: str, job_id: str) -> None:
    if end == "raises":
        raise RuntimeError("the model went away")
    if end == "vanishes":
        os._exit(9)  # as by a SIGKILL, which the first process of a pid namespace cannot send itself
    if end == "cancels":
        subprocess.run(["scancel", job_id], check=True)
        time.sleep(120)
