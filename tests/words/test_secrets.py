"""Tests that text which looks like a secret is masked, and other text is not."""

from __future__ import annotations

import pytest

from evalmon_agent.words.secrets import masked

pytestmark = pytest.mark.survives("S11")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("token hf_AbCdEfGhIjKlMnOpQr is invalid", "token hf_*** is invalid"),
        ("key: sk-proj-abc123DEF456ghi789", "key: sk-proj-***"),
        ("sk-ant-api03-AAAAbbbb1111", "sk-ant-***"),
        ("Authorization: Bearer abcdef123456", "Authorization: Bearer ***"),
        ("{'Authorization': 'Bearer abc.def-123456789'}", "{'Authorization': 'Bearer ***'}"),
        ("+ export HF_TOKEN=secretvalue123", "+ export HF_TOKEN=***"),
        ('OPENAI_API_KEY="a1b2c3d4e5f6"', 'OPENAI_API_KEY="***"'),
        ("password: hunter-two", "password: ***"),
        ("https://me:p4ssw0rd@host/x", "https://me:***@host/x"),
        ("ghp_0123456789abcdefABCDEF", "ghp_***"),
        ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.sig-nature", "***"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIA***"),
        ("wandb login --api-key=0123456789abcdef0123456789abcdef01234567", "wandb login --api-key=***"),
    ],
)
def test_a_secret_is_masked(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 79.11 GiB",
        "max_tokens: 4096, output tokens: 12345",
        "pad_token='<pad>' eos_token=</s>",
        "tokenizer: meta-llama/Llama-3.1-8B",
        "No OPENAI_API_KEY defined in the environment.",
        "ValueError: token: unexpected",
        "api_key=None",
        "",
    ],
)
def test_other_text_is_unchanged(text: str) -> None:
    assert masked(text) == text


def test_masking_twice_changes_nothing() -> None:
    once = masked("HF_TOKEN=secretvalue123 Bearer abcdef123456")
    assert masked(once) == once
