"""Tests which GPUs belong to the job, by its environment and what NVML lists."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalmon_agent.agent.sampling.nvml import Device, NoGpuError, choose, no_gpu_reason

IN_SLURM = {"SLURM_JOB_ID": "7"}


def gpus(count: int) -> list[Device]:
    """Their minors are not their indices, as on a node with more GPUs than the job sees."""
    return [Device(str(index), f"GPU-{index}abc-def", minor=index + 4) for index in range(count)]


def sliced() -> list[Device]:
    """GPU 0 is whole, GPU 1 has two instances and a hole between them."""
    instances = (Device("1:0", "MIG-aaaa"), Device("1:2", "MIG-cccc"))
    return [Device("0", "GPU-0", minor=0), Device("1", "GPU-1", minor=1, instances=instances)]


def indices(chosen: list[Device]) -> list[str]:
    return [device.index for device in chosen]


def why_none(environ: dict[str, str], devices: list[Device]) -> str:
    with pytest.raises(NoGpuError) as raised:
        choose(environ, devices)
    return str(raised.value)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ["0", "1", "2"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["1"]),
        (IN_SLURM | {"CUDA_VISIBLE_DEVICES": "0,1,2"}, ["0", "1", "2"]),
        (IN_SLURM | {"CUDA_VISIBLE_DEVICES": "2,0"}, ["0", "2"]),
        (IN_SLURM | {"CUDA_VISIBLE_DEVICES": " 1 , 2 "}, ["1", "2"]),
        (IN_SLURM | {"CUDA_VISIBLE_DEVICES": "1,1"}, ["1"]),
        (IN_SLURM | {"CUDA_VISIBLE_DEVICES": "GPU-2abc-def,GPU-0abc-def"}, ["0", "2"]),
        (IN_SLURM | {"CUDA_VISIBLE_DEVICES": "GPU-1a"}, ["1"]),
        (IN_SLURM | {"CUDA_VISIBLE_DEVICES": "4,5,6"}, ["0", "1", "2"]),
        (IN_SLURM | {"CUDA_VISIBLE_DEVICES": "1,9,2"}, ["0", "1", "2"]),
        (IN_SLURM | {"CUDA_VISIBLE_DEVICES": "1,9"}, ["1"]),
        (IN_SLURM | {"SLURM_GPUS_ON_NODE": "3"}, ["0", "1", "2"]),
        (IN_SLURM | {"SLURM_GPUS_ON_NODE": "1", "SLURM_JOB_GPUS": "5"}, ["1"]),
        (IN_SLURM | {"SLURM_JOB_GPUS": "4,5", "SLURM_STEP_GPUS": "6"}, ["2"]),
    ],
)
def test_the_jobs_gpus_are_found(environ: dict[str, str], expected: list[str]) -> None:
    assert expected == indices(choose(environ, gpus(3)))


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, ["0", "1:0", "1:2"]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-cccc"}, ["1:2"]),
        ({"CUDA_VISIBLE_DEVICES": "MIG-cccc,MIG-aaaa"}, ["1:0", "1:2"]),
        ({"CUDA_VISIBLE_DEVICES": "1"}, ["1:0", "1:2"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-1"}, ["1:0", "1:2"]),
        (IN_SLURM | {"SLURM_GPUS_ON_NODE": "3"}, ["0", "1:0", "1:2"]),
    ],
)
def test_the_instances_of_a_sliced_gpu_are_used(environ: dict[str, str], expected: list[str]) -> None:
    assert expected == indices(choose(environ, sliced()))


@pytest.mark.parametrize("nothing", ["", " ", "-1", "NoDevFiles"])
@pytest.mark.parametrize("where", [{}, IN_SLURM, IN_SLURM | {"SLURM_JOB_GPUS": "0"}])
def test_a_job_whose_gpus_are_hidden_has_none(nothing: str, where: dict[str, str]) -> None:
    assert "CUDA_VISIBLE_DEVICES" in why_none(where | {"CUDA_VISIBLE_DEVICES": nothing}, gpus(2))


def test_a_neighbours_gpu_is_not_recorded_in_a_slurm_job_without_gpu_variables() -> None:
    why = why_none(IN_SLURM, gpus(2))
    assert why == no_gpu_reason(IN_SLURM) == "no GPU is the job's: Slurm set no GPU variable"
    assert no_gpu_reason({}) is None


@pytest.mark.parametrize(
    "environ",
    [
        {"CUDA_VISIBLE_DEVICES": "7"},
        {"CUDA_VISIBLE_DEVICES": "GPU-f"},
        {"CUDA_VISIBLE_DEVICES": "GPU-"},
        IN_SLURM | {"SLURM_GPUS_ON_NODE": "1"},
        IN_SLURM | {"SLURM_JOB_GPUS": "0,1,x"},
    ],
)
def test_gpus_that_nvml_does_not_list_are_not_invented(environ: dict[str, str]) -> None:
    assert "NVML shows" in why_none(environ, gpus(2))


def test_an_empty_list_of_nvml_is_the_reason() -> None:
    assert why_none({}, []) == "NVML shows no GPU"


@given(
    st.dictionaries(
        st.sampled_from(
            ["CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID", "SLURM_GPUS_ON_NODE", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS"]
        ),
        st.text(alphabet="0123456789,- GPUMIGabc\n٣", max_size=12),
    ),
    st.integers(0, 3),
)
def test_the_choice_is_among_the_existing_gpus_whatever_the_environment_says(
    environ: dict[str, str], count: int
) -> None:
    devices = gpus(count)
    try:
        chosen = choose(environ, devices)
    except NoGpuError:
        pass
    else:
        assert set(chosen) <= set(devices)
        assert len(set(chosen)) == len(chosen) > 0
