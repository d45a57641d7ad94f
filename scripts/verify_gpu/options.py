"""The options of scripts/verify-gpu, read with Python alone: `--help` installs nothing."""

import argparse
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """All options."""
    options = argparse.ArgumentParser(
        prog="scripts/verify-gpu",
        description="A load of known shape (idle, bursts, one half) on one GPU, sampled by `evalmon sample` and by "
        "`nvidia-smi -l`: do the same columns say the same, and which is nearer to the truth? Takes fifteen intervals; "
        "the GPU should have nothing else to do. In a Slurm job: srun --gres=gpu:1 scripts/verify-gpu. It needs the "
        "driver and nvidia-smi, no CUDA toolkit; a node without a network, a .venv that scripts/bootstrap made before.",
    )
    options.add_argument(
        "--gpu", type=int, help="NVML's index (default: the first of CUDA_VISIBLE_DEVICES, which Slurm sets, else 0)"
    )
    options.add_argument(
        "--peaks",
        action="store_true",
        help="instead: bursts of work, and peaks of memory of 0.5 to 10 s between two samples, beside a reader that "
        "looks 50 times a second; takes eight intervals",
    )
    options.add_argument("--interval", type=int, help="seconds between samples (default: 5; with --peaks: 30)")
    options.add_argument("--output-dir", type=Path, help="keep the files and verify-gpu.json there (an empty folder)")
    options.add_argument("--json", action="store_true", help="print verify-gpu.json")
    options.add_argument("--standin", action="store_true", help="on a stand-in GPU: a test of this program itself")
    return options


if __name__ == "__main__":
    parser().parse_args()
