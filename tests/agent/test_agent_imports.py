"""What our programs inside an eval job import of others: nothing, but for the sampler pynvml and psutil."""

import sys

import pytest
from in_a_job import PYTHON, call, environ

OURS = sys.stdlib_module_names | {"evalmon_agent"}


def foreign_modules_after(module: str) -> set[str]:
    code = "import sys; before = set(sys.modules); import {}; print(*(set(sys.modules) - before))"
    done = call([*PYTHON, "-c", code.format(module)], environ())
    assert done.stderr == ""
    return {name.partition(".")[0] for name in done.stdout.split()} - OURS


@pytest.mark.parametrize("module", ["run", "hook", "report_file", "sample", "sampling.sampler"])
def test_in_a_job_only_the_standard_library_is_imported(module: str) -> None:
    """The sampler imports pynvml when it looks for GPUs, and psutil on kernels that do not tell children."""
    assert foreign_modules_after(f"evalmon_agent.agent.{module}") == set()
