"""Tests that equal errors become equal text, and different errors stay different."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence.normalised import normalised

SAME = [
    (
        "FileNotFoundError: [Errno 2] No such file or directory: '/data/run_1/config.json'",
        "FileNotFoundError: [Errno 2] No such file or directory: '/scratch/x/run_12/epoch_3/config.json'",
        "FileNotFoundError: [Errno 2] No such file or directory: '<path>/config.json'",
    ),
    (
        "openai.RateLimitError: Error code: 429 - Limit 30,000, used 29987. Try again in 1.2s. org-AbC12def34GH",
        "openai.RateLimitError: Error code: 429 - Limit 500, used 499. Try again in 60s. org-Zy9Xw8vUt7Sr",
        "openai.RateLimitError: Error code: 429 - Limit N, used N. Try again in Ns. <id>",
    ),
    (
        "ValueError: sample 17 at 2026-11-26T10:11:12+00:00 (tasks.py:31 in load)",
        "ValueError: sample 4 at 2026-11-25 01:02:03,004 (tasks.py:7 in load)",
        "ValueError: sample N at <time> (tasks.py:N in load)",
    ),
    (
        "ConnectError: http://127.0.0.1:8000/v1/chat/3 from 10.0.0.7:41234, <Future at 0x7f8a12>",
        "ConnectError: http://10.1.2.3:8001/v1/chat/99 from 10.0.0.9:5, <Future at 0x11ff>",
        "ConnectError: http://<address> from <address>, <Future at <address>>",
    ),
    (
        "KeyError: 'sample_12' of 6f1ed002ab5595859014ebf0951522d9",
        "KeyError: 'sample_3' of 123e4567-e89b-12d3-a456-426614174000",
        "KeyError: sample_N of <id>",
    ),
    ("cd: /data//home/me/r1/x: no", "cd: /data/r2/y: no", None),
    ("allocate 274877906944 bytes of StepId=12345690", "allocate 1024 bytes of StepId=771", None),
    ("RuntimeError('CUDA error: x\\nfrom GPU 3')", "RuntimeError: CUDA error: x from GPU 0", None),
    ('RuntimeError("can\'t read /a/b")', "RuntimeError: can't read /c", None),
    ("OSError(28, 'No space left on device')", "OSError: [Errno 28] No space left on device", None),
    ("KeyError('answer') (t.py:3 in f)", "KeyError: 'answer' (t.py:9 in f)", None),
    ("RuntimeError: CUDA\x20out of  memory. 2.50 GiB", "RuntimeError: CUDA out of memory. 18 GiB", None),
]
APART = [
    ("Error code: 429 - x", "Error code: 500 - x"),
    ("[Errno 28] x", "[Errno 122] x"),
    ("OSError(28, 'x')", "OSError(122, 'x')"),
    ("ValueError('x')", "TypeError('x')"),
    ("429 Client Error: x", "403 Client Error: x"),
    ("ended with exit status 1", "ended with exit status 2"),
    ("No module named 'torch'", "No module named 'vllm'"),
    ("'/data/config.json'", "'/data/tokenizer.json'"),
    ("meta-llama/Llama-3-8B was not found", "meta-llama/Llama-2-8B was not found"),
    ("https://huggingface.co/api/1", "https://api.openai.com/v1"),
    ("at https://huggingface.co/meta-llama/Llama-3.1-8B.", "at https://huggingface.co/meta-llama/Llama-3.1-70B."),
]


@pytest.mark.parametrize(("one", "other", "text"), SAME)
def test_two_occurrences_of_one_error_become_equal(one: str, other: str, text: str | None) -> None:
    assert normalised(one) == normalised(other)
    assert text is None or normalised(one) == text


@pytest.mark.parametrize(("one", "other"), APART)
def test_two_different_errors_stay_different(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


@given(st.text(max_size=2000))
def test_the_result_is_one_short_line(line: str) -> None:
    assert len(normalised(line)) <= 200
    assert len(normalised(line).splitlines()) <= 1


@pytest.mark.parametrize(
    "piece", ["a/", "/", "a1", "1,", "1.", "::", "12:", "http://", "a-", "_1", "0", "~/", "Error code "]
)
def test_repetitive_text_takes_little_time(piece: str) -> None:
    began_at = time.process_time()
    normalised(piece * 1000)
    assert time.process_time() - began_at < 0.5
