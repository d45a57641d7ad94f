"""The options of scripts/verify-gpu, read with Python alone: `--help` installs nothing."""

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """All options."""
    options = argparse.ArgumentParser(
        prog="scripts/verify-gpu",
        description="Runs a known load (idle, bursts, half) on one GPU, and compares what `evalmon sample` and "
        "`nvidia-smi -l` measure with each other and with the truth. Takes fifteen intervals; the GPU should be idle "
        "otherwise. In a Slurm job: srun --gres=gpu:1 scripts/verify-gpu. Needs the driver and nvidia-smi, but no CUDA "
        "toolkit. On a node without a network, run scripts/bootstrap on another host first.",
    )
    options.add_argument(
        "--gpu", type=int, help="NVML's index (default: the first of CUDA_VISIBLE_DEVICES, otherwise 0)"
    )
    options.add_argument(
        "--peaks",
        action="store_true",
        help="instead measure bursts of work, and peaks of memory of 0.5 to 10 s between two samples, and compare "
        "them with a reader that looks 50 times a second; takes eight intervals",
    )
    options.add_argument("--interval", type=int, help="seconds between samples (default: 5; with --peaks: 30)")
    options.add_argument("--output-dir", type=Path, help="keep the files and verify-gpu.json there (must be empty)")
    options.add_argument("--json", action="store_true", help="print verify-gpu.json")
    options.add_argument("--standin", action="store_true", help="use a stand-in GPU, to test this program itself")
    return options


if __name__ == "__main__":
    parser().parse_args()
