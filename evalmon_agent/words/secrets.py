"""Masks what looks like a secret in text that evalmon copies."""

from __future__ import annotations

import re

_MASK = "***"

# Keys with a maker's mark: Hugging Face, OpenAI, Anthropic, GitHub, Slack, AWS, Google, GitLab, Groq, xAI, NVIDIA, W&B.
_MARKED = re.compile(
    r"\b(hf_|sk-(?:ant-|proj-|or-)?|gh[pousr]_|github_pat_|xox[abprs]-|AKIA|ASIA|AIza|glpat-|gsk_|xai-|nvapi-|wandb_v1_)"
    r"[\w-]{8,}",
    re.ASCII,
)
_WEB_TOKEN = re.compile(r"\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?", re.ASCII)
_BEARER = re.compile(r"\b(Bearer|Basic)(\s+)[\w.~+/=-]{8,}", re.IGNORECASE | re.ASCII)
_IN_URL = re.compile(r"(\w://[^\s/:@]*:)[^\s/@]+(?=@)", re.ASCII)
_NAMED = re.compile(
    r"""(?ix)
    ( \b [\w.-]*
      (?: token | secret | passw(?:or)?d | passwd | api[_-]?key | access[_-]?key | authorization ) (?: [_-] [\w-]+ )?
      ["']? \s* (?: = | : ) \s* ["']? )
    (?! \*\*\* | bearer\b | basic\b | none\b | true\b | false\b | null\b | \d+\b )
    ( [^\s"',;&})\]]{6,} )
    """,
    re.ASCII,
)


def masked(text: str) -> str:
    """The text with everything masked that looks like a key, a token or a password."""
    text = _MARKED.sub(rf"\1{_MASK}", text)
    text = _WEB_TOKEN.sub(_MASK, text)
    text = _BEARER.sub(rf"\1\2{_MASK}", text)
    text = _IN_URL.sub(rf"\1{_MASK}", text)
    return _NAMED.sub(_named, text)


def _named(match: re.Match[str]) -> str:
    """A value that is long or has a digit is a secret; `tokens: hello` and `token=<eos>` are not."""
    value = match[2]
    is_secret = any(char.isdigit() for char in value) or len(value) >= 20 or "pass" in match[1].lower()
    return match[1] + (_MASK if is_secret and not value.startswith("<") else value)
