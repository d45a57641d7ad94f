"""Lists the kinds of evals whose logs are read, one file each (CONTRIBUTING says how to add one). Pure."""

from __future__ import annotations

from evalmon_agent.evidence.kinds.inspect_ai import INSPECT_AI
from evalmon_agent.evidence.kinds.kind import Kind
from evalmon_agent.evidence.kinds.lm_eval import LM_EVAL

KINDS: tuple[Kind, ...] = (INSPECT_AI, LM_EVAL)
BY_NAME = {kind.name: kind for kind in KINDS}


def is_named_in(script: str) -> bool:
    """Whether a script's text looks as if it runs an eval, which proves nothing."""
    return any(kind.runs.search(script) for kind in KINDS)
