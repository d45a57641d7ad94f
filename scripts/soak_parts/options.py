"""The options of scripts/soak, read with Python alone: `--help` installs nothing."""

import argparse
import random


def parser() -> argparse.ArgumentParser:
    """All options."""
    options = argparse.ArgumentParser(
        prog="scripts/soak",
        description="Runs short evals on the local Slurm, in three experiments, while a random killer hits sidecars, "
        "completion jobs, agents, samplers, commands, Slurm's daemons and the disk. Then compares what evalmon wrote "
        "with the evals' own notes and sacct. Exit status 1 if evalmon wrote anything other than what happened.",
    )
    options.add_argument(
        "--for", dest="seconds", type=float, default=120, metavar="SECONDS", help="how long (default: 120)"
    )
    options.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeat the same choice of hits")
    options.add_argument("--dir", help="a new directory for everything (default: a temporary one)")
    options.add_argument("--slurm", metavar="DIR", help="a running Slurm of scripts/slurm-dev (default: a new one)")
    options.add_argument("--user", required=True, help=argparse.SUPPRESS)  # the evals' owner; scripts/soak passes it
    return options


if __name__ == "__main__":
    parser().parse_args()
