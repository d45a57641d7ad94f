"""Tests the mean of the driver's samples since the last reading."""

from typing import Any

import pynvml
import pytest

from evalmon_agent.agent.sampling.gpu_sampler import SampleMean

TYPES = {0: ("dVal", 37.5), 1: ("uiVal", 37), 2: ("ulVal", 2**40), 3: ("ullVal", 2**40), 4: ("sllVal", -5)}
SECOND_US = 1_000_000
TYPES[5] = ("siVal", -5)


@pytest.mark.parametrize("kind", TYPES)
def test_samples_of_each_value_type_are_read(kind: int) -> None:
    """The stand-in has only one type, so this driver in Python has them all."""
    member, value = TYPES[kind]
    driver = OneSort(kind, member, value, times_us=[10, 20, 30])
    mean = SampleMean(driver, gpu=None, sort=1)  # type: ignore[arg-type]
    assert mean.since_last() == "[N/A]"
    driver.times_us = [20, 30, 40, 50]
    assert mean.since_last() == value
    driver.times_us = [50]
    assert mean.since_last() == "[N/A]"


def test_an_unknown_value_type_has_no_value() -> None:
    driver = OneSort(99, "uiVal", 37, times_us=[10])
    mean = SampleMean(driver, gpu=None, sort=1)  # type: ignore[arg-type]
    assert [mean.since_last(), mean.since_last()] == ["[N/A]", "[N/A]"]


def test_samples_fetched_in_between_count_and_a_window_with_a_gap_has_no_mean() -> None:
    driver = OneSort(1, "uiVal", 100, times_us=[SECOND_US])
    mean = SampleMean(driver, gpu=None, sort=1)  # type: ignore[arg-type]
    mean.since_last()
    driver.times_us = [second * SECOND_US for second in range(2, 12)]
    mean.fetch()
    driver.value, driver.times_us = 0, [second * SECOND_US for second in range(12, 32)]
    assert mean.since_last() == pytest.approx(100 / 3)
    driver.times_us = [second * SECOND_US for second in range(45, 62)]
    assert mean.since_last() == "[N/A]"
    driver.times_us = [second * SECOND_US for second in range(62, 92)]
    assert mean.since_last() == 0


class OneSort:
    """The parts of Nvml that SampleMean needs, for samples of one type; those at or before `value` are old."""

    def __init__(self, kind: int, member: str, value: float, *, times_us: list[int]) -> None:
        self.kind, self.member, self.value, self.times_us = kind, member, value, times_us

    def ask(self, function: str, _gpu: object, _sort: int, after_us: int) -> tuple[int, list[Any]]:
        assert function == "nvmlDeviceGetSamples"
        return self.kind, [self.sample(at_us, is_old=at_us <= after_us) for at_us in self.times_us]

    def sample(self, at_us: int, *, is_old: bool) -> Any:
        sample = pynvml.c_nvmlSample_t()
        sample.timeStamp = at_us
        setattr(sample.sampleValue, self.member, 99 if is_old else self.value)
        return sample
