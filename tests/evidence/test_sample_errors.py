"""Tests that equal errors of samples are counted together, in bounded time."""

from __future__ import annotations

import pytest

from evalmon_agent.evidence.kinds.inspect_ai import SampleErrors
from evalmon_agent.evidence.result import EvalResult, SampleError


def counted(*messages: object) -> SampleErrors:
    errors = SampleErrors()
    for message in messages:
        errors.add(message)
    return errors


def test_equal_errors_are_counted_together_the_most_frequent_first() -> None:
    messages = [f"TimeoutError('no answer after {n} s\\nat /tmp/run_{n}/x.json')" for n in range(30)]
    messages += [f'RateLimitError("Error code: 429 - wait {n}.5 s")' for n in range(40)]
    errors = counted(*messages)
    assert errors.samples == 70
    assert errors.most_frequent() == (
        SampleError("api-rate-limit", "RateLimitError: Error code: 429 - wait N s", 40),
        SampleError(None, "TimeoutError: no answer after N s at <path>/x.json", 30),
    )


def test_an_http_status_distinguishes_errors_that_are_equal_otherwise() -> None:
    errors = counted(*["Error code: 429 - at 10.25"] * 2, "Error code: 500 - at 11.25").most_frequent()
    assert [(error.cause, error.samples) for error in errors] == [("api-rate-limit", 2), ("api-unavailable", 1)]


@pytest.mark.parametrize("message", [None, "", 7, {"a": 1}, []])
def test_an_error_without_text_is_counted_and_not_named(message: object) -> None:
    errors = counted(message, "KeyError('a')")
    assert (errors.samples, errors.most_frequent()) == (2, (SampleError(None, "KeyError: a", 1),))


def test_at_most_five_errors_are_named_without_secrets() -> None:
    words = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta"]
    errors = counted(*(f"ValueError('{word}')" for word in words for _ in range(2)), *["E('api_key=abcdef123456')"] * 3)
    assert (errors.samples, len(errors.most_frequent())) == (15, 5)
    assert errors.most_frequent()[0] == SampleError(None, "E: api_key=***", 3)


def test_only_the_first_of_very_many_different_errors_are_distinguished() -> None:
    letters = [f"{chr(97 + n % 26)}{chr(97 + n // 26 % 26)}{chr(97 + n // 676)}" for n in range(2000)]
    errors = counted(*(f"KeyError('{word}')" for word in letters), "KeyError('aaa')")
    assert errors.samples == 2001
    assert errors.most_frequent()[0] == SampleError(None, "KeyError: aaa", 2)


def test_errors_are_printed_on_one_line() -> None:
    named = [SampleError("api-rate-limit", "Error code: 429", 4), SampleError(None, "KeyError: a", 3)]
    result = EvalResult(status="success", samples_total=20, samples_failed=8, sample_errors=named)
    assert result.failed_samples == "8 of 20 samples failed: 4 api-rate-limit (Error code: 429), 3 KeyError: a, 1 other"
    assert EvalResult(status="success", samples_failed=0).failed_samples is None
