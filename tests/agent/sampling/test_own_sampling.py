"""Tests that a script which writes gpu_metrics.csv itself is recognised by its text."""

from pathlib import Path

import pytest

from evalmon_agent.agent.sampling.sampler import samples_itself

QUERY = b"nvidia-smi --query-gpu=timestamp,utilization.gpu --format=csv -l 30"


@pytest.mark.parametrize(
    "text",
    [
        b"#!/bin/bash\n" + QUERY + b" > gpu_metrics.csv &\n",
        QUERY + b' \\\n  -f "$GPU_METRICS_DIR/gpu_metrics.csv" &',
        b"out=$PWD/gpu_metrics.csv\nwhile :; do " + QUERY + b' >>"$out"; done &\n',
    ],
)
def test_nvidia_smi_writing_gpu_metrics_csv_is_recognised(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes(text)
    assert samples_itself(str(tmp_path / "script"))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nvidia-smi\npython eval.py\n",
        b"# " + QUERY + b" > gpu_metrics.csv &\n",
        QUERY + b" > gpus.csv &\n",
        b"tail -1 gpu_metrics.csv\n  # as nvidia-smi prints it\n",
    ],
)
def test_other_uses_of_either_word_are_ignored(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "script").write_bytes(text)
    assert not samples_itself(str(tmp_path / "script"))


def test_an_unreadable_script_counts_as_not_sampling(tmp_path: Path) -> None:
    assert not samples_itself(str(tmp_path / "absent"))
