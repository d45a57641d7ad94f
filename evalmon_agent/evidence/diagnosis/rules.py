"""How each cause shows itself: patterns of exceptions and of lines, root causes before what follows from them.

The first rule that fits decides, wherever in the text its evidence stands. A line's pattern fits from its beginning,
as the program prints it; an exception's is looked for in `Type: message`. Sources of the wordings: PyTorch, vLLM,
transformers and huggingface_hub, datasets, openai and anthropic, lm_eval, inspect-ai, bash, conda, Lmod, Slurm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from evalmon_agent.evidence.diagnosis.machine_wordings import MACHINE
from evalmon_agent.evidence.diagnosis.program_wordings import PROGRAMS


@dataclass(frozen=True, slots=True)
class Rule:
    """One way in which a cause shows itself."""

    cause: str
    of: Literal["exception", "line"]
    pattern: re.Pattern[str]


def _rules() -> Iterator[Rule]:
    for cause, of_exceptions, of_lines in (*MACHINE, *PROGRAMS):
        for text in of_exceptions:
            yield Rule(cause, "exception", re.compile(text))
        for text in of_lines:
            yield Rule(cause, "line", re.compile(text))


RULES: tuple[Rule, ...] = tuple(_rules())
