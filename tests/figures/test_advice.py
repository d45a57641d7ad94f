"""Tests the advice for the next round: jobstats' thresholds, and never less for an unsuccessful eval."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.evidence.gpu_figures import GpuFigures
from evalmon_agent.figures import Figures, Use, advise
from evalmon_agent.words.states import State

GIB = 1024**3
GPU = GpuFigures(
    count=1,
    samples=20,
    utilization_mean_pct=80.0,
    utilization_p95_pct=95.0,
    utilization_max_pct=100.0,
    idle_fraction=0.0,
    memory_peak_bytes=30 * GIB,
    memory_total_bytes=80 * GIB,
    power_mean_w=300.0,
    energy_j=180_000.0,
    unused_count=0,
)
FIGURES = Figures(600.0, 900.0, 66.67, 80.0, 12 * GIB, 16 * GIB, 75.0, "seff")
GOOD = Use(
    state=State.COMPLETED,
    succeeded=True,
    figures=FIGURES,
    elapsed_s=600.0,
    time_limit_s=900.0,
    cpus=4,
    nodes="n1",
    gpu=GPU,
)


def with_gpu(use: Use = GOOD, **values: object) -> Use:
    return replace(use, gpu=replace(GPU, **values))  # type: ignore[arg-type]


def with_memory(used: float, asked: float, **values: object) -> Use:
    figures = replace(FIGURES, memory_used_bytes=int(used * GIB), memory_requested_bytes=int(asked * GIB))
    return replace(GOOD, figures=figures, **values)  # type: ignore[arg-type]


def test_an_eval_that_uses_its_resources_gets_no_advice() -> None:
    assert advise(GOOD) == []


def test_an_attempt_without_figures_gets_no_advice() -> None:
    assert advise(Use(state=State.COMPLETED, succeeded=True, figures=Figures())) == []


SAMPLED = "the memory figure (75% of the request) is sampled and missed the peak, which reached the limit"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (State.TIMEOUT, ["Time limit exceeded: increase the eval's time limit"]),
        (
            State.OUT_OF_MEMORY,
            [f"Memory limit exceeded: increase the eval's --mem; {SAMPLED}"],
        ),
    ],
)
def test_an_exceeded_limit_should_be_raised(state: State, expected: list[str]) -> None:
    assert expected == advise(replace(GOOD, state=state, succeeded=False))


@pytest.mark.parametrize(
    ("idle_s", "elapsed_s", "expected"),
    [
        (300.0, 310.0, ""),
        (301.0, 310.0, "GPU: did not use the GPU (0% for 00:05:01); ask for none, or find out why"),
        (301.0, None, "GPU: did not use the GPU (0% for 00:05:01); ask for none, or find out why"),
        (301.0, 3600.0, ""),
        (None, 3600.0, ""),
    ],
)
def test_a_gpu_at_0_for_more_than_300_s_was_not_used(
    idle_s: float | None, elapsed_s: float | None, expected: str
) -> None:
    """Sampled most of the time: a sampler that ended early says nothing about the time afterwards."""
    at_0 = {"utilization_mean_pct": 0.0, "utilization_max_pct": 0.0, "longest_idle_s": idle_s}
    assert expected == "".join(advise(with_gpu(replace(GOOD, elapsed_s=elapsed_s, time_limit_s=elapsed_s), **at_0)))


def test_an_unused_gpu_is_reported_for_failed_evals_and_several_gpus() -> None:
    failed = replace(GOOD, state=State.FAILED, succeeded=False)
    at_0 = {"utilization_mean_pct": 0.0, "utilization_max_pct": 0.0, "longest_idle_s": 600.0}
    idle = with_gpu(failed, **at_0, count=2, unused_count=2)
    assert advise(idle) == ["GPU: did not use its 2 GPUs (0% for 00:10:00); ask for none, or find out why"]


def test_a_part_of_the_samples_gives_no_advice() -> None:
    for low in ({"utilization_mean_pct": 5.0}, {"count": 2, "unused_count": 1}):
        assert advise(with_gpu(**low, samples=20, samples_expected=25)) != []
        assert advise(with_gpu(**low, samples=19, samples_expected=25)) == []


def test_one_unused_gpu_of_two_comes_before_a_low_mean() -> None:
    half = with_gpu(utilization_mean_pct=12.0, count=2, unused_count=1)
    assert advise(half) == ["GPU: did not use 1 of its 2 GPUs (0% for 00:10:00); ask for 1"]


@pytest.mark.parametrize(
    ("mean_pct", "colour"),
    [(0.5, "red"), (14.9, "red"), (15.0, "red"), (15.1, "orange"), (25.0, "orange"), (25.1, None)],
)
def test_a_low_mean_is_red_up_to_15_and_orange_up_to_25(mean_pct: float, colour: str | None) -> None:
    said = advise(with_gpu(utilization_mean_pct=mean_pct))
    assert [colour] * len(said) == [colour for line in said if f"busy on average ({colour})" in line]
    assert len(said) == (colour is not None)


@pytest.mark.parametrize(
    ("values", "is_slice"),
    [
        ({}, True),
        ({"utilization_mean_pct": 15.0}, False),
        ({"memory_peak_bytes": 10 * GIB}, False),
        ({"memory_total_bytes": 10 * GIB}, False),
        ({"memory_peak_bytes": None}, False),
        ({"count": 2, "unused_count": 0}, False),
    ],
)
def test_below_15_percent_and_10_gb_a_slice_is_advised(values: dict[str, object], is_slice: bool) -> None:
    small = {"utilization_mean_pct": 14.0, "memory_peak_bytes": 10 * GIB - 1}
    [line] = advise(with_gpu(**{**small, **values}))
    assert is_slice == ("MIG slice would do" in line)


@pytest.mark.parametrize(
    ("used", "asked", "expected"),
    [
        (8, 16, "Memory: used 8.00 GB of 16.00 GB; --mem=10G would do"),
        (8.01, 16, ""),
        (0.3, 1.5, ""),
        (14.5, 16, "Memory: used 14.50 GB of 16.00 GB, close to the limit; ask for more, such as --mem=19G"),
        (14.3, 16, ""),
        (0, 16, ""),
    ],
)
def test_memory_far_below_or_close_to_the_request_gives_advice(used: float, asked: float, expected: str) -> None:
    assert expected == "".join(advise(with_memory(used, asked)))


def test_a_failed_eval_is_never_advised_to_request_less() -> None:
    for state, succeeded in ((State.FAILED, False), (State.COMPLETED, False), (State.CANCELLED, False)):
        wasteful = with_memory(1, 64, state=state, succeeded=succeeded, elapsed_s=100.0, time_limit_s=36000.0)
        wasteful = replace(wasteful, figures=replace(wasteful.figures, cpu_efficiency_pct=1.0))
        assert advise(wasteful) == []
    near = with_memory(15, 16, state=State.FAILED, succeeded=False)
    assert "close to the limit" in advise(near)[0]


def test_memory_on_several_nodes_is_given_in_total() -> None:
    assert advise(with_memory(8, 16, nodes="n[1-2]")) == ["Memory: used 8.00 GB of 16.00 GB; 10 GB in all would do"]


@pytest.mark.parametrize(
    ("elapsed_s", "limit_s", "expected"),
    [
        (600.0, 7200.0, "Time: took 00:10:00 of 02:00:00; --time=00:15:00 would do, and start sooner"),
        (600.0, 1200.0, ""),
        (600.0, None, ""),
        (30.0, 7200.0, ""),
    ],
)
def test_a_time_limit_far_above_the_elapsed_time_gives_advice(
    elapsed_s: float, limit_s: float | None, expected: str
) -> None:
    assert expected == "".join(advise(replace(GOOD, elapsed_s=elapsed_s, time_limit_s=limit_s)))


@pytest.mark.parametrize(
    ("pct", "cpus", "expected"),
    [(10.0, 16, "CPU: kept 1.6 of 16 cores busy; 2 would do"), (50.1, 16, ""), (40.0, 1, ""), (10.0, None, "")],
)
def test_idle_cores_give_advice(pct: float, cpus: int | None, expected: str) -> None:
    use = replace(GOOD, cpus=cpus, figures=replace(FIGURES, cpu_efficiency_pct=pct))
    assert expected == "".join(advise(use))


NUMBERS = st.none() | st.floats(0, 1e9)
SIZES = st.none() | st.integers(0, 2**50)


@given(
    st.sampled_from(list(State)),
    st.booleans(),
    st.tuples(NUMBERS, NUMBERS, NUMBERS),
    st.tuples(SIZES, SIZES),
    st.none() | st.integers(0, 1000),
    st.none() | st.tuples(st.none() | st.integers(0, 16), st.none() | st.floats(0, 100), st.none() | st.floats(0, 100)),
)
def test_any_figures_give_valid_advice(
    state: State,
    succeeded: bool,
    times: tuple[float | None, float | None, float | None],
    memory: tuple[int | None, int | None],
    cpus: int | None,
    gpu: tuple[int | None, float | None, float | None] | None,
) -> None:
    elapsed_s, limit_s, cpu_pct = times
    found = None if gpu is None else replace(GPU, count=gpu[0], utilization_mean_pct=gpu[1], utilization_max_pct=gpu[2])
    figures = replace(
        FIGURES, cpu_efficiency_pct=cpu_pct, memory_used_bytes=memory[0], memory_requested_bytes=memory[1]
    )
    said = advise(
        Use(
            state=state,
            succeeded=succeeded,
            figures=figures,
            elapsed_s=elapsed_s,
            time_limit_s=limit_s,
            cpus=cpus,
            gpu=found,
        )
    )
    assert len(said) <= 4
    assert all("unknown" not in line and "None" not in line for line in said)
    if not succeeded:
        assert not any("would do" in line for line in said if not line.startswith("GPU"))
