"""The options of scripts/verify-filesystem, read with Python alone: `--help` installs nothing."""

import argparse


def parser() -> argparse.ArgumentParser:
    """All options."""
    options = argparse.ArgumentParser(
        prog="scripts/verify-filesystem",
        description="Tests what evalmon needs from a file system: that only one process holds the lock, that nobody "
        "reads half of a file while it is replaced, that only one process can create a name. Many processes try at "
        "once, through one mount, through two mounts of the same directory (DIR2), or on several hosts: "
        "srun -N2 --ntasks-per-node=1 scripts/verify-filesystem DIR --hosts 2",
    )
    options.add_argument(
        "dir", metavar="DIR", help="a directory there; the check makes a directory in it and removes that again"
    )
    options.add_argument("dir2", metavar="DIR2", nargs="?", help="the same directory through another mount")
    options.add_argument(
        "--kind", choices=["flock", "soft"], help="the lock to try (default: the one evalmon would use)"
    )
    options.add_argument(
        "--hosts", type=int, default=1, help="how many copies of this program run at the same time (default: 1)"
    )
    options.add_argument("--meet", metavar="NAME", help="a name that all hosts give (default: the Slurm step's)")
    options.add_argument("--processes", type=int, default=4, help="how many on each mount of each host (default: 4)")
    options.add_argument("--rounds", type=int, default=200, help="how many for each process (default: 200)")
    options.add_argument("--json", action="store_true", help="print JSON")
    return options


if __name__ == "__main__":
    parser().parse_args()
