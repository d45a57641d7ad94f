"""Lists the kinds of evals whose logs are read, one file each (CONTRIBUTING says how to add one). Pure."""

from __future__ import annotations

from collections.abc import Collection

from evalmon_agent.evidence.kinds.inspect_ai import INSPECT_AI
from evalmon_agent.evidence.kinds.kind import Kind
from evalmon_agent.evidence.kinds.lm_eval import LM_EVAL

KINDS: tuple[Kind, ...] = (INSPECT_AI, LM_EVAL)


def expects_log(script: str, programs: Collection[str]) -> bool:
    """Whether a job with this script, in which these programs ran, should have left a log of its eval."""
    return any(kind.expects_log(script, programs) for kind in KINDS)
