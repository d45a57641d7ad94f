"""The options of scripts/soak, read with Python alone: `--help` installs nothing."""

import argparse
import random


def parser() -> argparse.ArgumentParser:
    """All options."""
    options = argparse.ArgumentParser(
        prog="scripts/soak",
        description="Short evals on the local Slurm, in three experiments, while a random killer hits sidecars, "
        "completion jobs, agents, samplers, commands, Slurm's daemons and the disk. Afterwards the evals' own notes "
        "and sacct are laid beside what evalmon told. Exit status 1 if it told anything else than what happened.",
    )
    options.add_argument("--for", dest="seconds", type=float, default=120, metavar="SECONDS", help="default: 120")
    options.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeats the choice of the hits")
    options.add_argument("--dir", help="a new directory for everything (default: one below the system's for such)")
    options.add_argument(
        "--slurm", metavar="DIR", help="a Slurm of scripts/slurm-dev that runs already (default: its own)"
    )
    options.add_argument(
        "--user", required=True, help=argparse.SUPPRESS
    )  # the user who owns the evals; scripts/soak passes it
    return options


if __name__ == "__main__":
    parser().parse_args()
